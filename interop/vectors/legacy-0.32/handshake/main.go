// Prints a connection between two ends of Tendermint v0.32: the last version whose challenge comes from HKDF.
package main

import (
	"crypto/ed25519"
	"io"

	field "github.com/tendermint/tendermint/crypto/ed25519"
	"github.com/tendermint/tendermint/p2p/conn"

	"semel.vectors/table/tap"
)

func main() {
	tap.Print("legacy", "tendermint 0.32.14", func(wire io.ReadWriteCloser, seed []byte) (io.ReadWriter, []byte, error) {
		expanded := ed25519.NewKeyFromSeed(seed)
		var key field.PrivKeyEd25519
		copy(key[:], expanded)
		made, err := conn.MakeSecretConnection(wire, key)
		return made, expanded[32:], err
	})
}
