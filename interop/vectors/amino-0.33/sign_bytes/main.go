// Prints the table as Tendermint v0.33 encodes it: with amino. Requests carry no chain id.
package main

import (
	amino "github.com/tendermint/go-amino"
	cryptoamino "github.com/tendermint/tendermint/crypto/encoding/amino"
	"github.com/tendermint/tendermint/privval"
	"github.com/tendermint/tendermint/types"

	"semel.vectors/table"
)

const source = "tendermint 0.33.9"

func main() {
	cdc := amino.NewCodec()
	cryptoamino.RegisterAmino(cdc)
	privval.RegisterRemoteSignerMsg(cdc)
	for _, row := range table.Rows(false) {
		id := types.BlockID{Hash: row.Hash, PartsHeader: types.PartSetHeader{Total: int(row.Total), Hash: row.PartsHash}}
		var request privval.SignerMessage
		var signBytes []byte
		if row.Kind == table.Proposal {
			proposal := &types.Proposal{
				Type: types.ProposalType, Height: row.Height, Round: int(row.Round), POLRound: int(row.PolRound), BlockID: id,
				Timestamp: row.Time,
			}
			request, signBytes = &privval.SignProposalRequest{Proposal: proposal}, proposal.SignBytes(row.ChainID)
		} else {
			vote := &types.Vote{
				Type: types.PrevoteType, Height: row.Height, Round: int(row.Round), BlockID: id, Timestamp: row.Time,
				ValidatorAddress: row.Address, ValidatorIndex: int(row.Index),
			}
			if row.Kind == table.Precommit {
				vote.Type = types.PrecommitType
			}
			request, signBytes = &privval.SignVoteRequest{Vote: vote}, vote.SignBytes(row.ChainID)
		}
		encoded, err := cdc.MarshalBinaryLengthPrefixed(request)
		if err != nil {
			panic(err)
		}
		table.Print("amino", source, row, encoded, signBytes, nil)
	}
}
