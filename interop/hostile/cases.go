package main

import (
	"math"
	"strings"
	"time"

	proto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// block makes the block id that a letter stands for; 0 is nil.
func block(letter byte) proto.BlockID {
	if letter == 0 {
		return proto.BlockID{}
	}
	fill := func(b byte) []byte { return []byte(strings.Repeat(string(rune(b)), 32)) }
	return proto.BlockID{Hash: fill(letter), PartSetHeader: proto.PartSetHeader{Total: 1, Hash: fill(letter + 32)}}
}

func vote(kind proto.SignedMsgType, height int64, round int32, letter byte, later time.Duration) *proto.Vote {
	return &proto.Vote{
		Type: kind, Height: height, Round: round, BlockID: block(letter), Timestamp: epoch.Add(later),
		ValidatorAddress: make([]byte, 20), ValidatorIndex: 3,
	}
}

func proposal(height int64, round int32, letter byte, later time.Duration) *proto.Proposal {
	return &proto.Proposal{
		Type: proto.ProposalType, Height: height, Round: round, PolRound: -1, BlockID: block(letter), Timestamp: epoch.Add(later),
	}
}

const (
	prevote   = proto.PrevoteType
	precommit = proto.PrecommitType
	signed    = "signed"
	refused   = "refused"
	either    = "signed or refused" // signed means: with the signature given before, which the audit checks
)

// entry is one request and what it has to come to. The order matters: each is asked in the state that those above left behind.
type entry struct {
	name string
	ask  func(*audit, *session) verdict
	want string
	// strict: what Semel promises beyond the reference signer
	strict bool
}

func asks(v *proto.Vote) func(*audit, *session) verdict {
	return func(a *audit, s *session) verdict { return a.vote(s, a.chain, v) }
}

func proposes(p *proto.Proposal) func(*audit, *session) verdict {
	return func(a *audit, s *session) verdict { return a.proposal(s, p) }
}

func changed(v *proto.Vote, change func(*proto.Vote)) *proto.Vote {
	change(v)
	return v
}

func conflicts() []entry {
	return []entry{
		{"a proposal", proposes(proposal(10, 0, 'A', 0)), signed, false},
		{"the proposal again", proposes(proposal(10, 0, 'A', 0)), signed, false},
		{"the proposal with a later timestamp", proposes(proposal(10, 0, 'A', time.Second)), signed, false},
		{"a proposal of another block", proposes(proposal(10, 0, 'B', 0)), refused, false},
		{"a prevote", asks(vote(prevote, 10, 0, 'A', 0)), signed, false},
		{"the prevote again", asks(vote(prevote, 10, 0, 'A', 0)), signed, false},
		{"the prevote with a later timestamp", asks(vote(prevote, 10, 0, 'A', time.Minute)), signed, false},
		{"a prevote for another block", asks(vote(prevote, 10, 0, 'B', 0)), refused, false},
		{"a nil prevote after one for a block", asks(vote(prevote, 10, 0, 0, 0)), refused, false},
		{"a prevote for the same hash with another part set", asks(changed(vote(prevote, 10, 0, 'A', 0), func(v *proto.Vote) {
			v.BlockID.PartSetHeader.Total = 2
		})), refused, false},
		{"a proposal after its prevote", proposes(proposal(10, 0, 'B', 0)), refused, false},
		{"a precommit for another block than the prevote's", asks(vote(precommit, 10, 0, 'B', 0)), signed, false},
		{"a precommit for the prevote's block after that", asks(vote(precommit, 10, 0, 'A', 0)), refused, false},
		{"a nil precommit after that", asks(vote(precommit, 10, 0, 0, 0)), refused, false},
		{"the prevote again, after the precommit", asks(vote(prevote, 10, 0, 'A', 0)), either, false},
		{"another prevote, after the precommit", asks(vote(prevote, 10, 0, 'C', 0)), refused, false},
		{"a nil prevote in the next round", asks(vote(prevote, 10, 1, 0, 0)), signed, false},
		{"a prevote for a block after the nil one", asks(vote(prevote, 10, 1, 'A', 0)), refused, false},
		{"a nil precommit", asks(vote(precommit, 10, 1, 0, 0)), signed, false},
		{"a precommit for a block after the nil one", asks(vote(precommit, 10, 1, 'A', 0)), refused, false},
		{"a prevote in a round that is over", asks(vote(prevote, 10, 0, 'D', 0)), refused, false},
		{"a prevote at a height that is over", asks(vote(prevote, 9, 0, 'A', 0)), refused, false},
		{"a proposal at a height that is over", proposes(proposal(9, 7, 'A', 0)), refused, false},
		{"another chain's prevote", func(a *audit, s *session) verdict {
			return a.vote(s, "another-chain-1", vote(prevote, 11, 0, 'A', 0))
		}, refused, false},
		{"height 0", asks(vote(prevote, 0, 0, 'A', 0)), refused, false},
		{"height -5", asks(vote(prevote, -5, 0, 'A', 0)), refused, false},
		{"round -1", asks(vote(prevote, 11, -1, 'A', 0)), refused, true},
		{"a block hash of 20 bytes", asks(changed(vote(prevote, 11, 0, 'A', 0), func(v *proto.Vote) {
			v.BlockID.Hash = v.BlockID.Hash[:20]
		})), refused, true},
		{"a part-set hash of 33 bytes", asks(changed(vote(prevote, 11, 0, 'A', 0), func(v *proto.Vote) {
			v.BlockID.PartSetHeader.Hash = append(v.BlockID.PartSetHeader.Hash, 1)
		})), refused, true},
		{"a vote of no type", asks(vote(proto.UnknownType, 11, 0, 'A', 0)), refused, true},
		{"a proposal asked for as a vote", asks(vote(proto.ProposalType, 11, 0, 'A', 0)), refused, true},
		{"the highest height there is", asks(vote(prevote, math.MaxInt64, 0, 'A', 0)), refused, true},
		{"a prevote after all that", asks(vote(prevote, 11, 0, 'A', 0)), signed, false},
		{"an extension of 9,000 bytes", extension(12, 9000), signed, false},
		{"an empty extension", extension(13, 0), signed, false},
		{"a prevote with an extension", asks(changed(vote(prevote, 14, 0, 'A', 0), func(v *proto.Vote) {
			v.Extension = []byte("x")
		})), refused, true},
		{"a nil precommit with an extension", asks(changed(vote(precommit, 14, 0, 0, 0), func(v *proto.Vote) {
			v.Extension = []byte("x")
		})), refused, true},
	}
}

func extension(height int64, size int) func(*audit, *session) verdict {
	return func(a *audit, s *session) verdict {
		v := vote(precommit, height, 0, 'A', 0)
		v.Extension = []byte(strings.Repeat("x", size))
		got := a.vote(s, a.chain, v)
		if got.outcome == signed && !a.key.VerifySignature(types.VoteExtensionSignBytes(a.chain, v), got.vote.ExtensionSignature) {
			return verdict{outcome: "wrong", detail: "the extension's signature does not verify"}
		}
		return got
	}
}
