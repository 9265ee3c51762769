// hostile-node is a node that wants its signer to sign twice. It listens with CometBFT's own SecretConnection and codec on two addresses, as
// two sentries of one validator, and asks for what no honest node asks for. Every signature that it ever gets is verified and
// filed: two for one position and it has won.
//
//	hostile-node -addr 127.0.0.1:26659 [-addr2 127.0.0.1:26660] -chain-id ID [-heights N] [-crashes N] [-random N [-seed N]] [-strict=false]
//
// It prints `crash` and flushes when the signer has to be killed (kill -9) and started again by whoever drives it, `FAIL …` per
// broken promise, and a summary. Exit code 0: every promise was kept.
package main

import (
	"flag"
	"fmt"
	"os"
	"sync"
	"time"

	proto "github.com/cometbft/cometbft/proto/tendermint/types"
)

var failures int

// gone ends the program: without a signer every further case would only cost its timeout.
func gone(err error) {
	fail("%v", err)
	os.Exit(1)
}

func fail(format string, words ...any) {
	failures++
	fmt.Printf("FAIL "+format+"\n", words...)
}

func main() {
	addr := flag.String("addr", "", "first address to listen on")
	addr2 := flag.String("addr2", "", "second address to listen on; none: a single session")
	chain := flag.String("chain-id", "", "chain id")
	heights := flag.Int("heights", 200, "heights of the storm")
	crashes := flag.Int("crashes", 4, "times that the signer is killed during the storm")
	strict := flag.Bool("strict", true, "hold the signer to what Semel promises beyond the reference signer")
	random := flag.Int("random", 0, "requests made up at random, instead of the cases and the storm")
	seed := flag.Int64("seed", time.Now().UnixNano(), "seed of what is made up")
	flag.Parse()

	var sessions []*session
	for _, a := range []string{*addr, *addr2} {
		if a == "" {
			continue
		}
		l, err := listen(a)
		if err != nil {
			fmt.Println("FAIL", err)
			os.Exit(1)
		}
		sessions = append(sessions, &session{listener: l})
	}
	a := newAudit(*chain)
	for _, s := range sessions {
		if err := a.publicKey(s); err != nil {
			fmt.Println("FAIL", err)
			os.Exit(1)
		}
	}
	cases := 0
	if *random > 0 {
		*heights = 0
		cases = *random
		randomly(a, sessions[0], *random, *seed)
	} else {
		cases = table(a, sessions[0], *strict)
		if *strict {
			cases += abused(a, sessions[0])
		}
		storm(a, sessions, *heights, *crashes)
	}
	for _, d := range a.doubles {
		fail("double signature: %s", d)
	}
	dials := 0
	for _, s := range sessions {
		dials += s.dials
	}
	fmt.Printf("%d cases, %d heights of storm, %d signed, %d the same again, %d refused, %d sessions, %d double signatures\n",
		cases, *heights, a.signed, a.again, a.refused, dials, len(a.doubles))
	if failures > 0 {
		os.Exit(1)
	}
}

// table asks the entries one after the other. A refusal must be a reply: the session stays.
func table(a *audit, s *session, strict bool) int {
	asked := 0
	for _, e := range conflicts() {
		if e.strict && !strict {
			continue
		}
		asked++
		got := e.ask(a, s)
		if got.outcome != e.want && !(e.want == either && (got.outcome == signed || got.outcome == refused)) {
			fail("%s: %s (%s), expected %s", e.name, got.outcome, got.detail, e.want)
		}
	}
	return asked
}

// abused spoils one session after the other; the signer must dial again and still know what it signed.
func abused(a *audit, s *session) int {
	height := int64(20)
	all := append(abuses(), strangers()...)
	for _, one := range all {
		height++
		before := a.vote(s, a.chain, vote(prevote, height, 0, 'A', 0))
		if before.outcome != signed {
			fail("before %s: %s (%s)", one.name, before.outcome, before.detail)
		}
		if err := one.do(s); err != nil {
			fail("%s: %v", one.name, err)
		}
		s.drop()
		if got := a.vote(s, a.chain, vote(prevote, height, 0, 'B', 0)); got.outcome != refused {
			fail("after %s, another block: %s (%s)", one.name, got.outcome, got.detail)
		}
		if got := a.vote(s, a.chain, vote(prevote, height, 0, 'A', 0)); got.outcome != signed {
			fail("after %s, the same block: %s (%s)", one.name, got.outcome, got.detail)
		}
	}
	return len(all)
}

// storm: both sessions ask for different blocks at one position at the same time. One of them gets it.
func storm(a *audit, sessions []*session, heights, crashes int) {
	every := heights
	if crashes > 0 {
		every = heights / (crashes + 1)
	}
	for i := 1; i <= heights; i++ {
		height := int64(1000 + i)
		for _, kind := range []proto.SignedMsgType{prevote, precommit} {
			won := race(a, sessions, kind, height)
			if won > 1 || (won == 0 && i%every != 1) {
				fail("%d sessions got a signature for %v at height %d", won, kind, height)
			}
		}
		if crashes > 0 && i%every == 0 && i/every <= crashes {
			crash(a, sessions, height)
		}
	}
}

func race(a *audit, sessions []*session, kind proto.SignedMsgType, height int64) int {
	outcomes := make([]verdict, len(sessions))
	var all sync.WaitGroup
	for i, s := range sessions {
		all.Add(1)
		go func(i int, s *session) {
			defer all.Done()
			letter := byte('A' + (int64(i)+height)%2)
			outcomes[i] = a.vote(s, a.chain, vote(kind, height, 0, letter, time.Duration(i)*time.Millisecond))
		}(i, s)
	}
	all.Wait()
	won := 0
	for _, got := range outcomes {
		switch got.outcome {
		case signed:
			won++
		case "wrong":
			fail("height %d: %s", height, got.detail)
		}
	}
	return won
}

// crash has the signer killed and started again, and asks again at the position that it signed last.
func crash(a *audit, sessions []*session, height int64) {
	fmt.Println("crash")
	for _, s := range sessions {
		// the old process' session ends by itself; whatever was written to it is lost
		if s.secret != nil {
			s.raw.SetReadDeadline(time.Now().Add(redialMax))
			s.secret.Read(make([]byte, 1))
		}
		s.drop()
	}
	p := position{height, 0, precommit}
	a.Lock()
	known := a.blocks[p]
	a.Unlock()
	for _, s := range sessions {
		for _, letter := range []byte{'A', 'B', 0} {
			v := vote(precommit, height, 0, letter, time.Hour)
			want := refused
			if v.BlockID.String() == known {
				want = signed
			}
			if got := a.vote(s, a.chain, v); got.outcome != want {
				fail("after a crash, height %d: %s (%s), expected %s", height, got.outcome, got.detail, want)
			}
		}
	}
}
