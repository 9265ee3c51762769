// Prints a connection between two ends of CometBFT v0.38.
package main

import (
	"crypto/ed25519"
	"io"

	field "github.com/cometbft/cometbft/crypto/ed25519"
	"github.com/cometbft/cometbft/p2p/conn"

	"semel.vectors/table/tap"
)

func main() {
	tap.Print("v0.34", "cometbft 0.38.26", func(wire io.ReadWriteCloser, seed []byte) (io.ReadWriter, []byte, error) {
		expanded := ed25519.NewKeyFromSeed(seed)
		key := field.PrivKey(expanded)
		made, err := conn.MakeSecretConnection(wire, key)
		return made, expanded[32:], err
	})
}
