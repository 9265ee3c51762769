// Prints the table as CometBFT v0.38 encodes it: with vote extensions.
package main

import (
	"github.com/cometbft/cometbft/libs/protoio"
	privval "github.com/cometbft/cometbft/proto/tendermint/privval"
	proto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"

	"semel.vectors/table"
)

const source = "cometbft 0.38.26"

func main() {
	for _, row := range table.Rows(true) {
		id := proto.BlockID{Hash: row.Hash, PartSetHeader: proto.PartSetHeader{Total: row.Total, Hash: row.PartsHash}}
		var request privval.Message
		var signBytes, extension []byte
		if row.Kind == table.Proposal {
			proposal := &proto.Proposal{
				Type: proto.ProposalType, Height: row.Height, Round: row.Round, PolRound: row.PolRound, BlockID: id, Timestamp: row.Time,
			}
			request.Sum = &privval.Message_SignProposalRequest{
				SignProposalRequest: &privval.SignProposalRequest{Proposal: proposal, ChainId: row.ChainID},
			}
			signBytes = types.ProposalSignBytes(row.ChainID, proposal)
		} else {
			vote := &proto.Vote{
				Type: proto.PrevoteType, Height: row.Height, Round: row.Round, BlockID: id, Timestamp: row.Time,
				ValidatorAddress: row.Address, ValidatorIndex: row.Index, Extension: row.Extension,
			}
			if row.Kind == table.Precommit {
				vote.Type = proto.PrecommitType
				extension = types.VoteExtensionSignBytes(row.ChainID, vote)
			}
			request.Sum = &privval.Message_SignVoteRequest{SignVoteRequest: &privval.SignVoteRequest{Vote: vote, ChainId: row.ChainID}}
			signBytes = types.VoteSignBytes(row.ChainID, vote)
		}
		encoded, err := protoio.MarshalDelimited(&request)
		if err != nil {
			panic(err)
		}
		table.Print("protobuf", source, row, encoded, signBytes, extension)
	}
}
