// Prints a connection between two ends of Tendermint v0.34: the first version with protobuf.
package main

import (
	"crypto/ed25519"
	"io"

	field "github.com/tendermint/tendermint/crypto/ed25519"
	"github.com/tendermint/tendermint/p2p/conn"

	"semel.vectors/table/tap"
)

func main() {
	tap.Print("v0.34", "tendermint 0.34.24", func(wire io.ReadWriteCloser, seed []byte) (io.ReadWriter, []byte, error) {
		expanded := ed25519.NewKeyFromSeed(seed)
		key := field.PrivKey(expanded)
		made, err := conn.MakeSecretConnection(wire, key)
		return made, expanded[32:], err
	})
}
