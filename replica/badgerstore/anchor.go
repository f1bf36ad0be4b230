package badgerstore

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Anchor names one undisturbed life of one store on one boot of one machine. The engine keeps its ReplicaID
// beside the Anchor that it was drawn under and goes on using it only while Store.Anchor returns the same, non-empty string.
//
// It changes when the directory was copied, restored (whole, or in place over a newer state), moved to another file
// system, or changed in any way while no store was open; after the process ended without Close, as a backup may
// have been put back since; and after a reboot. It does not change by opening and closing. What no store can see
// is a block device set back to an earlier state under a mounted, running system.
//
// It is made of what a copy cannot take along: device, inode and change time of a file that nobody writes to,
// and the boot ID. On a doubt the file is replaced, which makes another Anchor.
type Anchor string

const (
	anchorName = "ANCHOR"
	bootIDPath = "/proc/sys/kernel/random/boot_id"
)

// readAnchor returns the present Anchor, or "" if there is none or its parts cannot be had.
func readAnchor(dir string) Anchor {
	path := filepath.Join(dir, anchorName)
	nonce, err := os.ReadFile(path)
	if err != nil || len(nonce) != anchorNonceBytes {
		return ""
	}
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return ""
	}
	boot := bootID()
	if boot == "" {
		return ""
	}
	return Anchor(fmt.Sprintf("%s %x %d.%d %d.%09d", boot, nonce, uint64(st.Dev), st.Ino, int64(st.Ctim.Sec), int64(st.Ctim.Nsec)))
}

const anchorNonceBytes = 16

// newAnchor replaces the anchor file, so that every Anchor given out before is void.
func newAnchor(dir string) error {
	nonce := make([]byte, anchorNonceBytes)
	rand.Read(nonce)
	if err := writeFile(filepath.Join(dir, anchorName), nonce); err != nil {
		return fmt.Errorf("write the anchor file of %s: %w", dir, err)
	}
	return nil
}

// bootID returns the ID of this boot of the machine, or "" if the system has none.
func bootID() string {
	text, err := os.ReadFile(bootIDPath)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(text))
}

func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return hex.EncodeToString(b)
}
