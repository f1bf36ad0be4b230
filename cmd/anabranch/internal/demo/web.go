package demo

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/anabranch-db/anabranch/net/gateway"
	"github.com/anabranch-db/anabranch/net/gateway/js"
	"github.com/anabranch-db/anabranch/net/gateway/js/examples/list"
	"github.com/anabranch-db/anabranch/net/gateway/page"
	"github.com/anabranch-db/anabranch/replica"
)

// webSpace is the space of the example's documents.
const webSpace = "list"

// WebOptions says how to run the demonstration in a browser. The zero value will do.
type WebOptions struct {
	Ready  func(Web)    // called once all can be opened
	Logger *slog.Logger // of the nodes; nil: silent
}

// Web says where the demonstration is. The addresses hold a token that is good for as long as it runs, on this machine.
type Web struct {
	People []Person `json:"people"`
}

// Person is somebody to be in a window of a browser, with a node of their own.
type Person struct {
	Name      string `json:"name"`
	Node      string `json:"node"`
	List      string `json:"list"`      // address of the list
	Dashboard string `json:"dashboard"` // address of the node's page
}

// RunWeb serves the example list and the dashboard by two nodes on this machine until ctx ends, which is no error. Nothing is left of it
// afterwards.
func RunWeb(ctx context.Context, o WebOptions) (err error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	dir, err := os.MkdirTemp("", "anabranch-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	nodes := cast()[:2]
	defer func() { err = errors.Join(err, closeNodes(nodes)) }()
	if err := openNodes(nodes, dir, webSpace, o.Logger); err != nil {
		return err
	}
	if err := fillList(ctx, nodes[0].space); err != nil {
		return err
	}
	token := rand.Text()
	var web Web
	var doorways []*doorway
	defer func() {
		for _, d := range doorways {
			err = errors.Join(err, d.close())
		}
	}()
	for i, name := range []string{"Ann", "Ben"} {
		d, err := openDoorway(nodes[i], token, o.Logger)
		if err != nil {
			return err
		}
		doorways = append(doorways, d)
		web.People = append(web.People, d.person(name, nodes[i].name, token))
	}
	if o.Ready != nil {
		o.Ready(web)
	}
	<-ctx.Done()
	return nil
}

// fillList writes what the list begins with.
func fillList(ctx context.Context, s *replica.Space) error {
	_, err := s.Update(ctx, func(tx *replica.Tx) error {
		for i, text := range []string{"Milk", "Bread", "Coffee"} {
			if err := tx.Doc(fmt.Sprintf("item/0%d", i+1)).Replace(map[string]any{"text": text, "done": false}); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// doorway is a gateway on a port of this machine.
type doorway struct {
	gateway *gateway.Gateway
	server  *http.Server
	origin  string
}

// openDoorway serves a node to those who have the token.
func openDoorway(n *node, token string, log *slog.Logger) (*doorway, error) {
	gw, err := gateway.New(gateway.Config{
		Replica: n.r, Logger: log, Page: page.Handler(), Client: js.Files(),
		Authenticate: func(_ context.Context, given string) (gateway.Grant, error) {
			if subtle.ConstantTimeCompare([]byte(given), []byte(token)) != 1 {
				return gateway.Grant{}, errors.New("it is not the token of this demonstration")
			}
			return gateway.Grant{ID: "demo", Subject: "demo", Space: gateway.AllSpaces, Rights: replica.AdminRights}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, gw.Close())
	}
	d := &doorway{gateway: gw, origin: "http://" + listener.Addr().String()}
	example := list.Handler()
	handler := func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, list.Root) {
			example.ServeHTTP(w, r)
			return
		}
		gw.ServeHTTP(w, r)
	}
	d.server = &http.Server{Handler: http.HandlerFunc(handler), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
	go func() { _ = d.server.Serve(listener) }() // it ends with close
	return d, nil
}

func (d *doorway) close() error {
	return errors.Join(d.gateway.Close(), d.server.Close())
}

func (d *doorway) person(name, node, token string) Person {
	fragment := url.Values{"token": {token}}.Encode()
	return Person{
		Name: name, Node: node, Dashboard: d.origin + "/#" + fragment,
		List: d.origin + list.Root + "#" + url.Values{"token": {token}, "name": {name}}.Encode(),
	}
}
