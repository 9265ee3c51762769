// Prints the table as Tendermint v0.34 encodes it: the first version with protobuf.
package main

import (
	"github.com/tendermint/tendermint/libs/protoio"
	privval "github.com/tendermint/tendermint/proto/tendermint/privval"
	proto "github.com/tendermint/tendermint/proto/tendermint/types"
	"github.com/tendermint/tendermint/types"

	"semel.vectors/table"
)

const source = "tendermint 0.34.24"

func main() {
	for _, row := range table.Rows(false) {
		id := proto.BlockID{Hash: row.Hash, PartSetHeader: proto.PartSetHeader{Total: row.Total, Hash: row.PartsHash}}
		var request privval.Message
		var signBytes []byte
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
				ValidatorAddress: row.Address, ValidatorIndex: row.Index,
			}
			if row.Kind == table.Precommit {
				vote.Type = proto.PrecommitType
			}
			request.Sum = &privval.Message_SignVoteRequest{SignVoteRequest: &privval.SignVoteRequest{Vote: vote, ChainId: row.ChainID}}
			signBytes = types.VoteSignBytes(row.ChainID, vote)
		}
		encoded, err := protoio.MarshalDelimited(&request)
		if err != nil {
			panic(err)
		}
		table.Print("protobuf", source, row, encoded, signBytes, nil)
	}
}
