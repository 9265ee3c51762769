module semel.vectors/legacy

go 1.22.11

require (
	github.com/tendermint/tendermint v0.32.14
	semel.vectors/table v0.0.0
)

require (
	github.com/btcsuite/btcd v0.0.0-20190115013929-ed77733ec07d // indirect
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/go-kit/kit v0.9.0 // indirect
	github.com/go-logfmt/logfmt v0.4.0 // indirect
	github.com/gogo/protobuf v1.3.1 // indirect
	github.com/golang/protobuf v1.3.2 // indirect
	github.com/libp2p/go-buffer-pool v0.0.2 // indirect
	github.com/pkg/errors v0.8.1 // indirect
	github.com/tendermint/go-amino v0.14.1 // indirect
	golang.org/x/crypto v0.0.0-20190308221718-c2843e01d9a2 // indirect
	golang.org/x/sys v0.0.0-20190813064441-fde4db37ae7a // indirect
)

replace semel.vectors/table => ../table
