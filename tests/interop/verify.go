// Verifies published logs with the code of Go's checksum database, which knows nothing of Counterfoil:
// golang.org/x/mod/sumdb/note reads checkpoints, golang.org/x/mod/sumdb/tlog hashes and proves.
//
//	verify TILES VKEY    TILES is the folder with registry/, 1/, 2/, …; VKEY the registry's verifier key
//
// Prints a line `NAME SIZE` for each log, and exits with 1 at the first thing that does not fit.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

func fail(format string, arguments ...interface{}) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}

// tiles reads hashes from a log's folder, for tlog.TileHashReader, which verifies each against the root.
type tiles string

func (folder tiles) Height() int { return height }

func (folder tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		// tlog writes `tile/8/<L>/<N>`; C2SP tlog-tiles leaves the height out.
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		data, err := os.ReadFile(filepath.Join(string(folder), path))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func (folder tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// entries reads all of a log's entries, in their order.
func entries(folder string, size int64) [][]byte {
	var found [][]byte
	for int64(len(found)) < size {
		number, width := int64(len(found))/256, size-int64(len(found))
		if width > 256 {
			width = 256
		}
		tile := tlog.Tile{H: height, L: 0, N: number, W: int(width)}
		path := strings.Replace(tile.Path(), "tile/8/0/", "tile/entries/", 1)
		data, err := os.ReadFile(filepath.Join(folder, path))
		if err != nil {
			fail("%v", err)
		}
		for len(data) > 0 {
			if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
				fail("%s ends within an entry", path)
			}
			length := int(binary.BigEndian.Uint16(data))
			found = append(found, data[2:2+length])
			data = data[2+length:]
		}
	}
	return found
}

// verify holds a log's checkpoint, tiles and entries against each other, and returns the entries.
func verify(folder, vkey string) (string, tlog.Tree, [][]byte) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		fail("%s: %v", vkey, err)
	}
	data, err := os.ReadFile(filepath.Join(folder, "checkpoint"))
	if err != nil {
		fail("%v", err)
	}
	opened, err := note.Open(data, note.VerifierList(verifier))
	if err != nil {
		fail("%s: %v", folder, err)
	}
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || lines[0] != verifier.Name() {
		fail("%s: not the checkpoint of %s", folder, verifier.Name())
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil {
		fail("%s: %v", folder, err)
	}
	tree := tlog.Tree{N: size, Hash: root}
	reader := tlog.TileHashReader(tree, tiles(folder))
	read := entries(folder, size)
	for index, entry := range read {
		leaf := tlog.RecordHash(entry)
		stored, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(index))})
		if err != nil || stored[0] != leaf {
			fail("%s, entry %d: not the hash in its tile (%v)", lines[0], index, err)
		}
		if index%97 == 0 || int64(index) == size-1 {
			proof, err := tlog.ProveRecord(size, int64(index), reader)
			if err != nil {
				fail("%s, entry %d: %v", lines[0], index, err)
			}
			if err := tlog.CheckRecord(proof, size, root, int64(index), leaf); err != nil {
				fail("%s, entry %d: %v", lines[0], index, err)
			}
		}
	}
	fmt.Printf("%s %d\n", lines[0], size)
	return lines[0], tree, read
}

func main() {
	if len(os.Args) != 3 {
		fail("usage: verify TILES VKEY")
	}
	_, _, registry := verify(filepath.Join(os.Args[1], "registry"), os.Args[2])
	trees := map[string]tlog.Tree{}
	sealed := map[string]string{}
	number := 0
	for index, entry := range registry {
		var said struct {
			Event, Key, Log, Root string
			Size                  int64
		}
		if err := json.Unmarshal(entry, &said); err != nil {
			fail("registry, entry %d: %v", index, err)
		}
		switch said.Event {
		case "opened":
			number++
			name, tree, _ := verify(filepath.Join(os.Args[1], strconv.Itoa(number)), said.Key)
			if name != said.Log {
				fail("registry, entry %d: names %s, not %s", index, said.Log, name)
			}
			trees[name] = tree
		case "sealed":
			sealed[said.Log] = fmt.Sprintf("%d %s", said.Size, said.Root)
		default:
			fail("registry, entry %d: %s", index, said.Event)
		}
	}
	for name, said := range sealed {
		if tree := trees[name]; said != fmt.Sprintf("%d %s", tree.N, tree.Hash) {
			fail("%s: not as it was sealed", name)
		}
	}
}
