package main

import (
	"bufio"
	"fmt"
	"math"
	"math/rand"
	"time"

	"github.com/cometbft/cometbft/libs/protoio"
	wire "github.com/cometbft/cometbft/proto/tendermint/privval"
	proto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
)

const (
	pipelined = 64    // requests that are sent before the first answer is read
	brokenOne = 40000 // one request in so many is bytes that no signer can read: it ends the session, and the next comes a second later
)

// randomly sends n requests, most of which no honest node sends, and checks every answer. The seed is printed: the same seed asks the same.
func randomly(a *audit, s *session, n int, seed int64) {
	r := rand.New(rand.NewSource(seed))
	height := int64(1_000_000)
	for asked := 0; asked < n; {
		s.connect()
		s.raw.SetDeadline(time.Now().Add(answerTimeout))
		out := bufio.NewWriterSize(s.secret, 1<<16)
		writer := protoio.NewDelimitedWriter(out)
		var checks []func(*wire.Message) error
		broken := false
		for len(checks) < pipelined && asked < n && !broken {
			asked++
			if r.Intn(brokenOne) == 0 {
				noise := make([]byte, 1+r.Intn(300))
				r.Read(noise)
				out.Write(append(length(uint64(len(noise))), noise...))
				broken = true
				continue
			}
			message, check := oneRequest(a, r, &height)
			if _, err := writer.WriteMsg(message); err != nil {
				fail("seed %d, request %d: %v", seed, asked, err)
				return
			}
			checks = append(checks, check)
		}
		if err := out.Flush(); err != nil && !broken {
			fail("seed %d, request %d: %v", seed, asked, err)
		}
		reader := protoio.NewDelimitedReader(s.secret, replySizeMax)
		for i, check := range checks {
			var m wire.Message
			if _, err := reader.ReadMsg(&m); err != nil {
				if !broken {
					fail("seed %d, batch to request %d, answer %d: %v", seed, asked, i, err)
				}
				break
			}
			if err := check(&m); err != nil {
				fail("seed %d, batch to request %d, answer %d: %v", seed, asked, i, err)
			}
		}
		if broken {
			s.drop()
		}
		if failures > 20 {
			return
		}
	}
}

// oneRequest makes a request and the check of its answer.
func oneRequest(a *audit, r *rand.Rand, height *int64) (*wire.Message, func(*wire.Message) error) {
	if r.Intn(200) == 0 {
		*height++
	}
	kinds := []proto.SignedMsgType{prevote, precommit}
	chain := a.chain
	if r.Intn(40) == 0 {
		chain = []string{"", "another-1", a.chain + "\x00", a.chain + " "}[r.Intn(4)]
	}
	switch r.Intn(12) {
	case 0:
		return &wire.Message{Sum: &wire.Message_PingRequest{PingRequest: &wire.PingRequest{}}}, func(m *wire.Message) error {
			if m.GetPingResponse() == nil {
				return fmt.Errorf("a ping was answered with %T", m.Sum)
			}
			return nil
		}
	case 1:
		return &wire.Message{Sum: &wire.Message_PubKeyRequest{PubKeyRequest: &wire.PubKeyRequest{ChainId: chain}}}, func(m *wire.Message) error {
			got := m.GetPubKeyResponse()
			if got == nil || (got.Error == nil) != (chain == a.chain) {
				return fmt.Errorf("asked for the key of chain %q: %v", chain, m)
			}
			return nil
		}
	case 2, 3:
		p := proposal(near(r, *height), int32(r.Intn(3)), letter(r), time.Duration(r.Intn(3))*time.Second)
		p.PolRound = int32(r.Intn(5)) - 2
		spoil(r, &p.BlockID, &p.Height, &p.Round, &p.Type)
		m := &wire.Message{Sum: &wire.Message_SignProposalRequest{SignProposalRequest: &wire.SignProposalRequest{Proposal: p, ChainId: chain}}}
		return m, func(m *wire.Message) error { return proposed(a, m, p, chain) }
	default:
		v := vote(kinds[r.Intn(2)], near(r, *height), int32(r.Intn(3)), letter(r), time.Duration(r.Intn(3))*time.Second)
		if r.Intn(10) == 0 {
			v.Extension = make([]byte, r.Intn(2000))
		}
		spoil(r, &v.BlockID, &v.Height, &v.Round, &v.Type)
		m := &wire.Message{Sum: &wire.Message_SignVoteRequest{SignVoteRequest: &wire.SignVoteRequest{Vote: v, ChainId: chain}}}
		return m, func(m *wire.Message) error { return voted(a, m, v, chain) }
	}
}

// near is a height at which the signer may or may not have signed.
func near(r *rand.Rand, height int64) int64 {
	return height - 2 + int64(r.Intn(4))
}

func letter(r *rand.Rand) byte {
	return []byte{0, 'A', 'B', 'C'}[r.Intn(4)]
}

// spoil makes one request in ten one that no signer may sign, or that only looks so.
func spoil(r *rand.Rand, id *proto.BlockID, height *int64, round *int32, kind *proto.SignedMsgType) {
	switch r.Intn(80) {
	case 0:
		id.Hash = make([]byte, r.Intn(40))
	case 1:
		id.PartSetHeader.Hash = make([]byte, r.Intn(40))
	case 2:
		*height = []int64{0, -1, math.MinInt64, math.MaxInt64, *height + 1_000_000_000}[r.Intn(5)]
	case 3:
		*round = []int32{-1, math.MinInt32, math.MaxInt32}[r.Intn(3)]
	case 4:
		*kind = proto.SignedMsgType(r.Intn(64))
	case 5:
		id.PartSetHeader.Total = r.Uint32()
	}
}

// voted checks the answer to a vote: a refusal, or a signature that verifies and is the only one for its position.
func voted(a *audit, m *wire.Message, v *proto.Vote, chain string) error {
	got := a.voteReply(m, v)
	if got.outcome == "wrong" {
		return fmt.Errorf("%s at %d/%d: %s", v.Type, v.Height, v.Round, got.detail)
	}
	if got.outcome == signed && (chain != a.chain || v.Height <= 0 || v.Round < 0 || !hashed(v.BlockID) || !isVote(v.Type)) {
		return fmt.Errorf("a vote that nobody may sign was signed: %v for chain %q", v, chain)
	}
	if got.outcome == signed && len(v.Extension) > 0 && (v.Type == prevote || isNil(v.BlockID)) {
		return fmt.Errorf("a vote with an extension that it cannot have was signed: %v", v)
	}
	return nil
}

func proposed(a *audit, m *wire.Message, p *proto.Proposal, chain string) error {
	r := m.GetSignedProposalResponse()
	switch {
	case r == nil:
		return fmt.Errorf("a proposal was answered with %T", m.Sum)
	case r.Error != nil:
		a.refusal()
		return nil
	case chain != a.chain || p.Height <= 0 || p.Round < 0 || !hashed(p.BlockID) || p.Type != proto.ProposalType:
		return fmt.Errorf("a proposal that nobody may sign was signed: %v for chain %q", p, chain)
	}
	got := *p
	got.Timestamp, got.Signature = r.Proposal.Timestamp, r.Proposal.Signature
	return a.see(position{p.Height, p.Round, proto.ProposalType}, &p.BlockID, types.ProposalSignBytes(a.chain, &got), got.Signature)
}

func isNil(id proto.BlockID) bool {
	return len(id.Hash) == 0 && len(id.PartSetHeader.Hash) == 0 && id.PartSetHeader.Total == 0
}

func isVote(kind proto.SignedMsgType) bool {
	return kind == prevote || kind == precommit
}

func hashed(id proto.BlockID) bool {
	fits := func(hash []byte) bool { return len(hash) == 0 || len(hash) == 32 }
	return fits(id.Hash) && fits(id.PartSetHeader.Hash)
}
