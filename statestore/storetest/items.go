package storetest

import (
	"errors"
	"fmt"
	"strings"

	"github.com/umbra-iot/umbra/statestore"
)

// item is an item of space 1 to put.
func item(partition, key, value string) statestore.Item {
	return statestore.Item{Space: 1, Partition: partition, Key: []byte(key), Value: []byte(value)}
}

// without is an item of space 1 to delete.
func without(partition, key string) statestore.Item {
	return statestore.Item{Space: 1, Partition: partition, Key: []byte(key)}
}

func (s *suite) mustPut(items ...statestore.Item) {
	s.Helper()
	if err := s.Put(s.Context(), items); err != nil {
		s.Fatalf("Put(%d items) = %v, want nil", len(items), err)
	}
}

// items returns what Scan finds, as "partition/key=value". Partitions come in any order.
func (s *suite) items(space byte) map[string][]string {
	s.Helper()
	found := map[string][]string{}
	last := ""
	err := s.Scan(s.Context(), space, func(it statestore.Item) error {
		if it.Space != space {
			s.Errorf("Scan(%d) gave an item of space %d", space, it.Space)
		}
		if found[it.Partition] != nil && last != it.Partition {
			s.Errorf("Scan(%d) came back to partition %q", space, it.Partition)
		}
		last = it.Partition
		found[it.Partition] = append(found[it.Partition], string(it.Key)+"="+string(it.Value))
		return nil
	})
	if err != nil {
		s.Fatalf("Scan(%d) = %v", space, err)
	}
	return found
}

// wantItems compares all items of a space; each is a partition followed by its items.
func (s *suite) wantItems(space byte, want ...[]string) {
	s.Helper()
	all := map[string][]string{}
	for _, w := range want {
		all[w[0]] = w[1:]
	}
	s.wantEqual("Scan", s.items(space), all)
}

func testItems(s *suite) {
	s.wantItems(1)
	s.mustPut()
	items := []statestore.Item{
		item("p", "b", "1"), item("q", "x", ""), item("p", "a", "2"), item("p", "\x00\xff", "3"), item("p", "b", "4"),
		{Space: 2, Partition: "p", Key: []byte("b"), Value: []byte("5")},
	}
	s.mustPut(items...)
	for i := range items {
		clear(items[i].Key)
		clear(items[i].Value)
	}
	s.wantItems(1, []string{"p", "\x00\xff=3", "a=2", "b=4"}, []string{"q", "x="})
	s.wantItems(2, []string{"p", "b=5"})
	s.wantItems(0)
}

func testGet(s *suite) {
	s.mustPut(item("p", "a", "1"), item("p", "b", "2"), item("q", "a", "3"), item("p", "c", "4"), without("p", "c"))
	keys := [][]byte{[]byte("b"), []byte("none"), []byte("c"), []byte("a")}
	got, err := s.Get(s.Context(), 1, "p", keys)
	if err != nil {
		s.Fatalf("Get() = %v", err)
	}
	s.wantEqual("Get", got, [][]byte{[]byte("2"), nil, nil, []byte("1")})
	for _, partition := range []string{"none", ""} {
		got, err = s.Get(s.Context(), 1, partition, keys)
		if err != nil {
			s.Fatalf("Get(%q) = %v", partition, err)
		}
		s.wantEqual("Get of a partition that is not there", got, make([][]byte, len(keys)))
	}
	if got, err = s.Get(s.Context(), 1, "p", nil); err != nil || len(got) != 0 {
		s.Errorf("Get(no keys) = %q, %v", got, err)
	}
}

func testItemsDeleted(s *suite) {
	s.mustPut(item("p", "a", "1"), item("p", "b", "2"), item("q", "a", "3"), item("pp", "a", "4"))
	s.mustPut(without("p", "a"), without("p", "never"), without("never", "a"))
	s.wantItems(1, []string{"p", "b=2"}, []string{"q", "a=3"}, []string{"pp", "a=4"})
	s.mustPut(item("q", "b", "5"), statestore.Item{Space: 1, Partition: "q"}, item("q", "c", "6"))
	s.wantItems(1, []string{"p", "b=2"}, []string{"q", "c=6"}, []string{"pp", "a=4"})
	s.mustPut(statestore.Item{Space: 1, Partition: "q"}, statestore.Item{Space: 1, Partition: "never"}, without("p", "b"))
	s.wantItems(1, []string{"pp", "a=4"})
	s.mustPut(statestore.Item{Space: 2, Partition: "pp"})
	s.wantItems(1, []string{"pp", "a=4"})
}

func testItemsRepeated(s *suite) {
	s.mustPut(item("p", "a", "old"), item("p", "b", "old"))
	put := []statestore.Item{{Space: 1, Partition: "p"}, item("p", "a", "new"), without("p", "a"), item("p", "c", "new")}
	for range 3 {
		s.mustPut(put...)
		s.wantItems(1, []string{"p", "c=new"})
	}
}

func testItemNames(s *suite) {
	names := []string{"", " ", "a", "a:", "{a}", "}{", "a*", "\x01", "ä/+#", strings.Repeat("n", 300)}
	var items []statestore.Item
	var want [][]string
	for _, p := range names {
		row := []string{p}
		for _, k := range []string{"", "\x00", ":", "a"} {
			items = append(items, item(p, k, p+"|"+k))
			row = append(row, k+"="+p+"|"+k)
		}
		want = append(want, row)
	}
	s.mustPut(items...)
	s.wantItems(1, want...)
	s.wantThings("", "", 10)
}

func testManyItems(s *suite) {
	const partitions, each = 5, 1000
	for p := range partitions {
		var items []statestore.Item
		for i := range each {
			items = append(items, item(fmt.Sprint("p", p), fmt.Sprintf("%08d", (i*7919)%each), strings.Repeat("v", 100)))
		}
		s.mustPut(items...)
	}
	found := s.items(1)
	for p := range partitions {
		list := found[fmt.Sprint("p", p)]
		if len(list) != each {
			s.Fatalf("%d items in partition %d, want %d", len(list), p, each)
		}
		for i, got := range list {
			if !strings.HasPrefix(got, fmt.Sprintf("%08d=", i)) {
				s.Fatalf("item %d is %.20q", i, got)
			}
		}
	}
}

func testScanError(s *suite) {
	s.mustPut(item("p", "a", "1"), item("p", "b", "2"))
	n := 0
	err := s.Scan(s.Context(), 1, func(statestore.Item) error {
		n++
		return errStop
	})
	if !errors.Is(err, errStop) || n != 1 {
		s.Errorf("Scan() = %v after %d items, want %v after 1", err, n, errStop)
	}
}
