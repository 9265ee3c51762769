package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	wire "github.com/cometbft/cometbft/proto/tendermint/privval"
)

// abuse is something that no node does to a session. Whatever the signer does about it, it must dial again and go on as before.
type abuse struct {
	name string
	do   func(*session) error
}

func write(b []byte) func(*session) error {
	return func(s *session) error {
		s.connect()
		_, err := s.secret.Write(b)
		return err
	}
}

func plain(do func(*session) error) func(*session) error {
	return func(s *session) error {
		s.connect()
		return do(s)
	}
}

func abuses() []abuse {
	return []abuse{
		{"a message of 2^40 bytes announced", write(append(length(1<<40), 0x1a))},
		{"a length that never ends", write(bytes.Repeat([]byte{0xff}, 11))},
		{"a message of no bytes", write(length(0))},
		{"an unknown member", write(append(length(2), 0x7a, 0x00))},
		{"bytes that are no message", write(append(length(64), bytes.Repeat([]byte{0xfe}, 64)...))},
		{"a vote that is cut short", write(append(length(200), 0x1a, 0xc5, 0x01, 0x0a, 0x20))},
		{"a reply instead of a request", write(append(length(2), 0x42, 0x00))},
		{"a request without a vote", write(append(length(2), 0x1a, 0x00))},
		{"a frame that is not ours", plain(func(s *session) error {
			_, err := s.raw.Write(bytes.Repeat([]byte{0x5a}, 1044))
			return err
		})},
		{"half a frame", plain(func(s *session) error {
			_, err := s.raw.Write(bytes.Repeat([]byte{0x5a}, 500))
			return err
		})},
		{"500 pings at once", func(s *session) error {
			for i := 0; i < 500; i++ {
				if err := s.send(wire.Message{Sum: &wire.Message_PingRequest{PingRequest: &wire.PingRequest{}}}); err != nil {
					return err
				}
			}
			for i := 0; i < 500; i++ {
				if m, err := s.receive(); err != nil || m.GetPingResponse() == nil {
					return fmt.Errorf("ping %d: %v %v", i, m, err)
				}
			}
			return nil
		}},
	}
}

// strangers answer the signer's dial with something that is no handshake.
func strangers() []abuse {
	answer := func(name string, b []byte, linger time.Duration) abuse {
		return abuse{name, func(s *session) error {
			s.drop()
			s.listener.SetDeadline(time.Now().Add(redialMax))
			c, err := s.listener.AcceptTCP()
			if err != nil {
				return err
			}
			defer c.Close()
			c.Write(b)
			time.Sleep(linger)
			return nil
		}}
	}
	lowOrder := append([]byte{0x22, 0x0a, 0x20}, make([]byte, 32)...) // BytesValue of an ephemeral key
	return []abuse{
		answer("a listener that hangs up", nil, 0),
		answer("a listener that says nothing for 1.5 s", nil, 1500*time.Millisecond),
		answer("a listener that speaks HTTP", []byte("HTTP/1.1 400 Bad Request\r\n\r\n"), 50*time.Millisecond),
		answer("an ephemeral key of low order", lowOrder, 50*time.Millisecond),
		answer("a first message of 2^40 bytes", append(length(1<<40), 0x0a), 50*time.Millisecond),
	}
}

// length is the prefix that announces a message of n bytes.
func length(n uint64) []byte { return binary.AppendUvarint(nil, n) }
