package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/net/quicnet"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/keyfile"
)

// maxPassphraseBytes bounds a passphrase.
const maxPassphraseBytes = 1024

// passphrases asks for the passphrase of the keys once, if it is needed at all.
type passphrases struct {
	once sync.Once
	word string
	err  error
}

// passphrase returns what opens the keys of this store: the first line of the file that the setting passphrase-file names, or what is typed on a
// terminal if there is a key that needs it. It is "" where there is neither.
func (a *app) passphrase() (string, error) {
	p := &a.passphrases
	p.once.Do(func() {
		switch path := a.cfg.Text("passphrase-file"); {
		case path != "":
			p.word, p.err = readPassphrase(path)
		case a.hasLockedKey():
			p.word, p.err = a.askPassphrase("Passphrase of the keys in " + a.cfg.Dir() + ": ")
		}
	})
	return p.word, p.err
}

func readPassphrase(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("passphrase: %w", err)
	}
	defer f.Close()
	line := bufio.NewScanner(f)
	line.Buffer(nil, maxPassphraseBytes+2)
	if !line.Scan() || line.Text() == "" {
		return "", errors.Join(fmt.Errorf("passphrase file %s: want a passphrase of at most %d bytes on its first line", path, maxPassphraseBytes), line.Err())
	}
	return line.Text(), nil
}

func (a *app) hasLockedKey() bool {
	files, err := a.keyFiles()
	for _, path := range files {
		if _, locked, kerr := keyfile.Public(path); kerr == nil && locked {
			return true
		}
	}
	return err != nil
}

// keyFiles returns the paths of all private keys of the store.
func (a *app) keyFiles() ([]string, error) {
	files, err := keyfile.Dir{Path: filepath.Join(a.cfg.Dir(), replica.KeysDir)}.Files()
	for _, path := range []string{identityPath(a.cfg.Dir()), filepath.Join(a.cfg.Dir(), gateway.TokenKeyFile)} {
		if _, serr := os.Stat(path); serr == nil {
			files = append(files, path)
		}
	}
	return files, err
}

// askPassphrase returns "" if there is no terminal to ask on.
func (a *app) askPassphrase(prompt string) (string, error) {
	f, ok := a.stdin.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return "", nil
	}
	fmt.Fprint(a.stderr, prompt)
	word, err := term.ReadPassword(int(f.Fd()))
	fmt.Fprintln(a.stderr)
	if err != nil {
		return "", fmt.Errorf("passphrase: %w", err)
	}
	return string(word), nil
}

func (a *app) spaceKeys() keyfile.Dir {
	return keyfile.Dir{Path: filepath.Join(a.cfg.Dir(), replica.KeysDir), Passphrase: a.passphrase}
}

// sleepingIdentity is the identity of a store that no node serves: it knows its peer ID, and opens the key when something is to be signed.
type sleepingIdentity struct {
	a    *app
	peer replica.PeerID
}

func (s sleepingIdentity) PeerID() replica.PeerID { return s.peer }

func (s sleepingIdentity) Sign(message []byte) ([]byte, error) {
	id, err := s.a.ensureIdentity()
	if err != nil {
		return nil, err
	}
	return id.Sign(message)
}

// storedIdentity returns the identity of the store; nil if it has none yet.
func (a *app) storedIdentity() replica.Identity {
	peer, err := quicnet.IdentityOf(a.cfg.Dir())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.log.Warn("the node's identity cannot be read", "error", err)
		}
		return nil
	}
	return sleepingIdentity{a, peer}
}

// ensureIdentity opens the identity of the store directory, and makes both if they do not exist.
func (a *app) ensureIdentity() (quicnet.Identity, error) {
	if err := os.MkdirAll(a.cfg.Dir(), 0o700); err != nil {
		return quicnet.Identity{}, err
	}
	id, err := quicnet.OpenIdentity(a.cfg.Dir(), a.passphrase)
	if errors.Is(err, keyfile.ErrLocked) {
		err = fmt.Errorf("%w: give it with --passphrase-file FILE or ANABRANCH_PASSPHRASE_FILE, or type it on a terminal", err)
	}
	return id, err
}

func newPassphraseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "passphrase",
		Short: "Give the private keys a passphrase, another one, or none",
		Long: `Encrypt the private keys of this store, its identity, that of its tokens and those of spaces made here, with a passphrase; it is typed twice on the terminal, or read
from a file. Whoever starts the node then needs it: serve asks for it, or reads it from the file that --passphrase-file names. Who has
the disk, or a backup, and not the passphrase, cannot pretend to be this node; the documents are not encrypted.

The present passphrase, if there is one, is asked for or read from --passphrase-file. A node that is running is not affected.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	file := cmd.Flags().String("new-file", "", "read the new passphrase from the first line of this file")
	remove := cmd.Flags().Bool("remove", false, "store the keys without a passphrase")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *file != "" && *remove {
			return usagef("--new-file and --remove: choose one")
		}
		return appOf(cmd).changePassphrase(*file, *remove)
	}
	return cmd
}

func (a *app) changePassphrase(file string, remove bool) error {
	if !remove {
		if _, err := a.ensureIdentity(); err != nil {
			return err
		}
	}
	files, err := a.keyFiles()
	if err != nil {
		return err
	}
	word := ""
	if !remove {
		if word, err = a.newPassphrase(file); err != nil {
			return err
		}
	}
	for _, path := range files {
		if err := keyfile.ChangePassphrase(path, a.passphrase, word); err != nil {
			return err
		}
	}
	fmt.Fprintf(a.stderr, "%s changed\n", list(int64(len(files)), "key", "keys"))
	return nil
}

func (a *app) newPassphrase(file string) (string, error) {
	if file != "" {
		return readPassphrase(file)
	}
	word, err := a.askPassphrase("New passphrase: ")
	if err != nil {
		return "", err
	}
	if word == "" {
		return "", usagef("no new passphrase: type it on a terminal, or name a file with --new-file")
	}
	again, err := a.askPassphrase("Once more: ")
	if err == nil && again != word {
		err = usagef("the two are not the same")
	}
	return word, err
}
