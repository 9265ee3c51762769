// Package table holds the rows that every generator of sign bytes goes through, so that the families differ in nothing but their code.
package table

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

// Kinds of a row.
const (
	Prevote   = "prevote"
	Precommit = "precommit"
	Proposal  = "proposal"
)

// Row is one vote or proposal, in words of no version.
type Row struct {
	Name      string
	Kind      string
	Height    int64
	Round     int32
	PolRound  int32 // proposals
	Hash      []byte
	Total     uint32
	PartsHash []byte
	Time      time.Time
	ChainID   string
	Extension []byte // votes
	Address   []byte // votes
	Index     int32  // votes
}

// Line is what is printed of a row.
type Line struct {
	Family                string `json:"family"`
	Source                string `json:"source"`
	Name                  string `json:"name"`
	Kind                  string `json:"kind"`
	Fields                Fields `json:"fields"`
	RequestHex            string `json:"request_hex"`
	SignBytesHex          string `json:"sign_bytes_hex"`
	ExtensionSignBytesHex string `json:"extension_sign_bytes_hex,omitempty"`
}

// Fields is a row as its line names it.
type Fields struct {
	ChainID   string `json:"chain_id"`
	Height    int64  `json:"height"`
	Round     int32  `json:"round"`
	PolRound  *int32 `json:"pol_round,omitempty"`
	Hash      string `json:"block_hash"`
	Total     uint32 `json:"parts_total"`
	PartsHash string `json:"parts_hash"`
	Seconds   int64  `json:"seconds"`
	Nanos     int    `json:"nanos"`
	Extension string `json:"extension,omitempty"`
}

// Print writes the line of a row. extension is nil where the family signs none.
func Print(family, source string, row Row, request, signBytes, extension []byte) {
	fields := Fields{
		ChainID: row.ChainID, Height: row.Height, Round: row.Round,
		Hash: hex.EncodeToString(row.Hash), Total: row.Total, PartsHash: hex.EncodeToString(row.PartsHash),
		Seconds: row.Time.Unix(), Nanos: row.Time.Nanosecond(), Extension: hex.EncodeToString(row.Extension),
	}
	if row.Kind == Proposal {
		fields.PolRound = &row.PolRound
	}
	line, err := json.Marshal(Line{
		Family: family, Source: source, Name: row.Name, Kind: row.Kind, Fields: fields,
		RequestHex: hex.EncodeToString(request), SignBytesHex: hex.EncodeToString(signBytes),
		ExtensionSignBytesHex: hex.EncodeToString(extension),
	})
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(os.Stdout, "%s\n", line)
}

type block struct {
	name        string
	hash        []byte
	total       uint32
	partsHash   []byte
	alsoInTimes bool
}

func fill(from byte) []byte {
	out := make([]byte, 32)
	for i := range out {
		out[i] = from + byte(i)*7
	}
	return out
}

// Rows gives every row; those with an extension only where the family has them.
func Rows(extensions bool) []Row {
	full := block{"a block", fill(0x11), 17, fill(0x83), true}
	blocks := []block{
		{"nil", nil, 0, nil, true},
		full,
		{"a block of 2^32 - 1 parts", fill(0x11), 1<<32 - 1, fill(0x83), false},
		{"a hash without parts", fill(0x11), 0, nil, false},
		{"parts without a hash", nil, 17, fill(0x83), false},
		{"a number of parts and nothing else", nil, 17, nil, false},
	}
	usual := time.Date(2023, 10, 4, 10, 0, 0, 123456789, time.UTC)
	times := []struct {
		name string
		time time.Time
	}{
		{"Go's zero time", time.Time{}},
		{"1901", time.Date(1901, 2, 3, 4, 5, 6, 7, time.UTC)},
		{"half a second before 1970", time.Unix(-1, 500_000_000).UTC()},
		{"1970 exactly", time.Unix(0, 0).UTC()},
		{"a nanosecond after 1970", time.Unix(0, 1).UTC()},
		{"whole seconds", usual.Truncate(time.Second)},
		{"the last nanosecond of 9999", time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)},
	}
	var rows []Row
	add := func(kind, name string, change func(*Row)) {
		row := Row{
			Name: kind + ", " + name, Kind: kind, Height: 12345, Round: 1, PolRound: -1, Hash: full.hash, Total: full.total,
			PartsHash: full.partsHash, Time: usual, ChainID: "test_chain_id",
		}
		if kind != Proposal {
			row.Address, row.Index = bytes.Repeat([]byte{0xaa}, 20), 3
		}
		change(&row)
		rows = append(rows, row)
	}
	for _, kind := range []string{Prevote, Precommit, Proposal} {
		for _, block := range blocks {
			put := func(row *Row) { row.Hash, row.Total, row.PartsHash = block.hash, block.total, block.partsHash }
			add(kind, block.name, put)
			for _, at := range times {
				if block.alsoInTimes {
					add(kind, block.name+", "+at.name, func(row *Row) { put(row); row.Time = at.time })
				}
			}
		}
		for _, height := range []int64{1, 1 << 31, 1 << 53, 1 << 62} {
			for _, round := range []int32{0, 1<<31 - 1} {
				add(kind, fmt.Sprintf("height %d, round %d", height, round), func(row *Row) { row.Height, row.Round = height, round })
			}
		}
		for _, chain := range []string{"", strings.Repeat("c", 50), "c"} {
			add(kind, fmt.Sprintf("chain id of %d bytes", len(chain)), func(row *Row) { row.ChainID = chain })
		}
		add(kind, "everything zero", func(row *Row) { *row = Row{Name: row.Name, Kind: kind, Time: time.Unix(0, 0).UTC()} })
	}
	for _, round := range []int32{1, 6, 1<<31 - 1} {
		for _, pol := range []int32{-1, 0, 5} {
			add(Proposal, fmt.Sprintf("round %d that rests on round %d", round, pol), func(row *Row) {
				row.Round, row.PolRound = round, pol
			})
		}
	}
	if extensions {
		for _, length := range []int{1, 31, 127, 128, 300, 5000} {
			extension := bytes.Repeat([]byte{0xe5, 0x00, 0x1f}, length/3+1)[:length]
			add(Precommit, fmt.Sprintf("extension of %d bytes", length), func(row *Row) { row.Extension = extension })
			add(Precommit, fmt.Sprintf("extension of %d bytes, height 2^62, round 0", length), func(row *Row) {
				row.Extension, row.Height, row.Round = extension, 1<<62, 0
			})
		}
	}
	return rows
}
