// Prints a connection between two ends of Tendermint v0.33: amino, and a challenge from Merlin.
package main

import (
	"crypto/ed25519"
	"io"

	field "github.com/tendermint/tendermint/crypto/ed25519"
	"github.com/tendermint/tendermint/p2p/conn"

	"semel.vectors/table/tap"
)

func main() {
	tap.Print("v0.33", "tendermint 0.33.9", func(wire io.ReadWriteCloser, seed []byte) (io.ReadWriter, []byte, error) {
		expanded := ed25519.NewKeyFromSeed(seed)
		var key field.PrivKeyEd25519
		copy(key[:], expanded)
		made, err := conn.MakeSecretConnection(wire, key)
		return made, expanded[32:], err
	})
}
