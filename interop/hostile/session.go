package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/cometbft/cometbft/crypto"
	"github.com/cometbft/cometbft/crypto/ed25519"
	cryptoenc "github.com/cometbft/cometbft/crypto/encoding"
	"github.com/cometbft/cometbft/libs/protoio"
	"github.com/cometbft/cometbft/p2p/conn"
	wire "github.com/cometbft/cometbft/proto/tendermint/privval"
	proto "github.com/cometbft/cometbft/proto/tendermint/types"
	"github.com/cometbft/cometbft/types"
)

const (
	replySizeMax  = 10240           // what a node of 0.38 reads of one reply
	redialMax     = 8 * time.Second // a signer dials again at least each second; a loaded machine gets more
	answerTimeout = 10 * time.Second
)

// listener accepts a signer's connection as a node's privval listener does: plain TCP, then CometBFT's SecretConnection.
type listener struct {
	*net.TCPListener
	key ed25519.PrivKey
}

func listen(addr string) (*listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return &listener{ln.(*net.TCPListener), ed25519.GenPrivKey()}, nil
}

// accept returns the connection twice: below the encryption, where a hostile node may want to spoil it, and above.
func (l *listener) accept(end time.Time) (*net.TCPConn, *conn.SecretConnection, error) {
	l.SetDeadline(end)
	raw, err := l.AcceptTCP()
	if err != nil {
		return nil, nil, err
	}
	raw.SetDeadline(time.Now().Add(answerTimeout))
	secret, err := conn.MakeSecretConnection(raw, l.key)
	if err != nil {
		raw.Close()
		return nil, nil, err
	}
	return raw, secret, nil
}

// session is one connection of the signer to one listener. It is dropped by either side at times and made again by `ask`.
type session struct {
	listener *listener
	raw      *net.TCPConn
	secret   *conn.SecretConnection // nil: none
	dials    int
}

var errClosed = errors.New("the signer closed the session")

func (s *session) connect() {
	if s.secret != nil {
		return
	}
	for end := time.Now().Add(redialMax); ; {
		raw, secret, err := s.listener.accept(end)
		if err == nil {
			s.raw, s.secret, s.dials = raw, secret, s.dials+1
			return
		}
		if time.Now().After(end) {
			gone(fmt.Errorf("the signer did not dial within %v: %w", redialMax, err))
		}
	}
}

func (s *session) drop() {
	if s.secret != nil {
		s.raw.Close()
		s.secret = nil
	}
}

func (s *session) send(m wire.Message) error {
	s.connect()
	s.raw.SetDeadline(time.Now().Add(answerTimeout))
	_, err := protoio.NewDelimitedWriter(s.secret).WriteMsg(&m)
	return err
}

func (s *session) receive() (*wire.Message, error) {
	var m wire.Message
	_, err := protoio.NewDelimitedReader(s.secret, replySizeMax).ReadMsg(&m)
	if err != nil {
		s.drop()
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
			return nil, errClosed
		}
		return nil, fmt.Errorf("%w (%v)", errClosed, err)
	}
	return &m, nil
}

func (s *session) ask(m wire.Message) (*wire.Message, error) {
	if err := s.send(m); err != nil {
		s.drop()
		return nil, fmt.Errorf("%w (%v)", errClosed, err)
	}
	return s.receive()
}

// audit remembers every signature that ever came back, from whatever session, and knows a double signature.
type audit struct {
	sync.Mutex
	chain   string
	key     crypto.PubKey
	blocks  map[position]string // canonical block id
	first   map[position][]byte // signature
	signed  int
	refused int
	again   int // answered with the signature given before
	doubles []string
}

type position struct {
	height int64
	round  int32
	kind   proto.SignedMsgType
}

func newAudit(chain string) *audit {
	return &audit{chain: chain, blocks: map[position]string{}, first: map[position][]byte{}}
}

// see checks a signature and files it. A second one for a position is fine only if it is the first one again.
func (a *audit) see(p position, block *proto.BlockID, signBytes, signature []byte) error {
	a.Lock()
	defer a.Unlock()
	if !a.key.VerifySignature(signBytes, signature) {
		return fmt.Errorf("the signature for %v does not verify", p)
	}
	id := ""
	if block != nil {
		id = block.String()
	}
	known, there := a.blocks[p]
	switch {
	case !there:
		a.blocks[p], a.first[p] = id, signature
		a.signed++
	case known != id:
		a.doubles = append(a.doubles, fmt.Sprintf("%v: %q and %q", p, known, id))
		return fmt.Errorf("DOUBLE SIGNATURE for %v", p)
	case !bytes.Equal(a.first[p], signature):
		return fmt.Errorf("a second signature for %v", p)
	default:
		a.again++
	}
	return nil
}

func (a *audit) refusal() {
	a.Lock()
	defer a.Unlock()
	a.refused++
}

// verdict of one request.
type verdict struct {
	outcome string // signed, refused, closed, wrong
	detail  string
	vote    *proto.Vote
}

func (a *audit) vote(s *session, chain string, v *proto.Vote) verdict {
	m, err := s.ask(wire.Message{Sum: &wire.Message_SignVoteRequest{SignVoteRequest: &wire.SignVoteRequest{Vote: v, ChainId: chain}}})
	if err != nil {
		return verdict{outcome: "closed", detail: err.Error()}
	}
	return a.voteReply(m, v)
}

func (a *audit) voteReply(m *wire.Message, v *proto.Vote) verdict {
	r := m.GetSignedVoteResponse()
	switch {
	case r == nil:
		return verdict{outcome: "wrong", detail: fmt.Sprintf("answered with %T", m.Sum)}
	case r.Error != nil:
		a.refusal()
		return verdict{outcome: "refused", detail: fmt.Sprintf("code %d, %s", r.Error.Code, r.Error.Description)}
	case len(r.Vote.Signature) == 0:
		return verdict{outcome: "wrong", detail: "no signature and no error"}
	}
	// Like a node: take the signature and the timestamp, and keep the rest as it was asked for.
	got := *v
	got.Timestamp, got.Signature, got.ExtensionSignature = r.Vote.Timestamp, r.Vote.Signature, r.Vote.ExtensionSignature
	if err := a.see(position{v.Height, v.Round, v.Type}, &v.BlockID, types.VoteSignBytes(a.chain, &got), got.Signature); err != nil {
		return verdict{outcome: "wrong", detail: err.Error()}
	}
	return verdict{outcome: "signed", vote: &got}
}

func (a *audit) proposal(s *session, p *proto.Proposal) verdict {
	m, err := s.ask(wire.Message{Sum: &wire.Message_SignProposalRequest{SignProposalRequest: &wire.SignProposalRequest{Proposal: p, ChainId: a.chain}}})
	if err != nil {
		return verdict{outcome: "closed", detail: err.Error()}
	}
	r := m.GetSignedProposalResponse()
	switch {
	case r == nil:
		return verdict{outcome: "wrong", detail: fmt.Sprintf("answered with %T", m.Sum)}
	case r.Error != nil:
		a.refusal()
		return verdict{outcome: "refused", detail: fmt.Sprintf("code %d, %s", r.Error.Code, r.Error.Description)}
	}
	got := *p
	got.Timestamp, got.Signature = r.Proposal.Timestamp, r.Proposal.Signature
	if err := a.see(position{p.Height, p.Round, proto.ProposalType}, &p.BlockID, types.ProposalSignBytes(a.chain, &got), got.Signature); err != nil {
		return verdict{outcome: "wrong", detail: err.Error()}
	}
	return verdict{outcome: "signed"}
}

func (a *audit) publicKey(s *session) error {
	m, err := s.ask(wire.Message{Sum: &wire.Message_PubKeyRequest{PubKeyRequest: &wire.PubKeyRequest{ChainId: a.chain}}})
	if err != nil {
		return err
	}
	r := m.GetPubKeyResponse()
	if r == nil || r.Error != nil {
		return fmt.Errorf("no public key: %v", m)
	}
	key, err := cryptoenc.PubKeyFromProto(r.PubKey)
	if err != nil {
		return err
	}
	if a.key != nil && !a.key.Equals(key) {
		return errors.New("the public key changed")
	}
	a.key = key
	return nil
}
