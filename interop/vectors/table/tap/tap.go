// Package tap lets two ends of one version's SecretConnection shake hands with each other, and prints what each sent.
package tap

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
)

// Line is what is printed of a connection.
type Line struct {
	Variant string  `json:"variant"`
	Source  string  `json:"source"`
	Sides   [2]Side `json:"sides"`
}

// Side is one end. Everything that it sends follows from its two secrets and the other end's.
type Side struct {
	EphemeralSecretHex string    `json:"ephemeral_secret_hex"`
	IdentitySeedHex    string    `json:"identity_seed_hex"`
	IdentityPublicHex  string    `json:"identity_public_hex"`
	HandshakeHex       string    `json:"handshake_hex"`
	Messages           []Message `json:"messages"`
}

// Message is what goes through the connection once it stands.
type Message struct {
	PlainHex  string `json:"plain_hex"`
	SealedHex string `json:"sealed_hex"`
}

// Make shakes hands as an identity. It gives the connection and the identity's public key.
type Make func(conn io.ReadWriteCloser, seed []byte) (secret io.ReadWriter, public []byte, err error)

const frameLen = 4 + 1024 + 16

// wire keeps what is written, and says when the first byte is.
type wire struct {
	net.Conn
	written []byte
	spoke   chan struct{}
	framed  bool
	both    *sync.WaitGroup
}

func (w *wire) Write(b []byte) (int, error) {
	if len(w.written) == 0 {
		close(w.spoke)
	}
	if len(b) >= frameLen && !w.framed {
		// Both identities are sealed before either buffer is used again: some versions do not clear what pads a frame.
		w.framed = true
		w.both.Done()
		w.both.Wait()
	}
	w.written = append(w.written, b...)
	return w.Conn.Write(b)
}

// fixed is a source of randomness that gives one secret and then ends.
type fixed []byte

func (f *fixed) Read(b []byte) (int, error) {
	n := copy(b, *f)
	*f = (*f)[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func secret(from byte) []byte {
	out := make([]byte, 32)
	for i := range out {
		out[i] = from + byte(i)*29
	}
	return out
}

func message(from byte, length int) []byte {
	out := make([]byte, length)
	for i := range out {
		out[i] = from + byte(i)*3
	}
	return out
}

// Print shakes hands, sends a few messages each way, and prints the line.
func Print(variant, source string, make_ Make) {
	line := Line{Variant: variant, Source: source}
	a, b := net.Pipe()
	both := new(sync.WaitGroup)
	both.Add(2)
	wires := [2]*wire{{Conn: a, spoke: make(chan struct{}), both: both}, {Conn: b, spoke: make(chan struct{}), both: both}}
	var secrets [2]io.ReadWriter
	failed := make(chan error, 2)
	for i := range wires {
		ephemeral, seed := secret(byte(0x21+i)), secret(byte(0x91+i))
		line.Sides[i].EphemeralSecretHex, line.Sides[i].IdentitySeedHex = hex.EncodeToString(ephemeral), hex.EncodeToString(seed)
		source := fixed(ephemeral)
		rand.Reader = &source
		go func() {
			made, public, err := make_(wires[i], seed)
			secrets[i], line.Sides[i].IdentityPublicHex = made, hex.EncodeToString(public)
			failed <- err
		}()
		// The ephemeral key is the first thing that is sent; then the other end may have its own.
		<-wires[i].spoke
	}
	for range wires {
		if err := <-failed; err != nil {
			panic(err)
		}
	}
	for i, lengths := range [2][]int{{1, 1023, 1024, 1025}, {5, 2049}} {
		line.Sides[i].HandshakeHex = hex.EncodeToString(wires[i].written)
		for _, length := range lengths {
			plain, start := message(byte(0x41+i), length), len(wires[i].written)
			go func() {
				_, err := secrets[i].Write(plain)
				failed <- err
			}()
			if _, err := io.ReadFull(secrets[1-i], make([]byte, length)); err != nil {
				panic(err)
			}
			if err := <-failed; err != nil {
				panic(err)
			}
			line.Sides[i].Messages = append(line.Sides[i].Messages, Message{
				hex.EncodeToString(plain), hex.EncodeToString(wires[i].written[start:]),
			})
		}
	}
	text, err := json.Marshal(line)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stdout, "%s\n", text)
}
