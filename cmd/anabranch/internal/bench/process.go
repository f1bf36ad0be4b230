package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"time"
)

// process is a node process as the driver sees it. Calls are made one at a time; begin and end let two processes work at
// the same time.
type process struct {
	name    string
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies *bufio.Reader
	stderr  *tail
}

// endTimeout is how long a process may take to close its store when it is told to end.
const endTimeout = 30 * time.Second

// start runs a node process, which ends with ctx.
func start(ctx context.Context, command []string, name string) (*process, error) {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.WaitDelay = time.Second
	p := &process{name: name, cmd: cmd, stderr: &tail{}}
	cmd.Stderr = p.stderr
	cmd.Env = append(os.Environ(), "QUIC_GO_DISABLE_RECEIVE_BUFFER_WARNING=true")
	var err error
	if p.in, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.replies = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start node process %s: %w", name, err)
	}
	return p, nil
}

// begin sends a request; end must follow.
func (p *process) begin(op string, args any) error {
	text, err := json.Marshal(args)
	if err != nil {
		return err
	}
	line, err := json.Marshal(request{Op: op, Args: text})
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return p.failed(op, err)
	}
	return nil
}

// end waits for the reply to the last request.
func (p *process) end(op string, result any) error {
	line, err := p.replies.ReadBytes('\n')
	if err != nil {
		return p.failed(op, err)
	}
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		return p.failed(op, err)
	}
	if r.Error != "" {
		return p.failed(op, errors.New(r.Error))
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(r.Result, result)
}

func (p *process) failed(op string, err error) error {
	if text := p.stderr.String(); text != "" {
		return fmt.Errorf("node %s: %s: %w; it printed:\n%s", p.name, op, err, text)
	}
	return fmt.Errorf("node %s: %s: %w", p.name, op, err)
}

// call is one request and its reply.
func call[R any](p *process, op string, args any) (R, error) {
	var result R
	err := p.begin(op, args)
	if err == nil {
		err = p.end(op, &result)
	}
	return result, err
}

// stop ends the process; it closes its store. One that does not end in time is killed.
func (p *process) stop() error {
	err := p.in.Close()
	timer := time.AfterFunc(endTimeout, func() { _ = p.cmd.Process.Kill() }) // Wait reports it
	defer timer.Stop()
	if werr := p.cmd.Wait(); werr != nil {
		return p.failed("end", werr)
	}
	return err
}

// kill ends a process that is not needed any more, however it is.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()         // nothing depends on how it ended
}

// tail keeps the end of what a process prints on standard error.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailBytes = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > tailBytes {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-tailBytes:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.buf))
}
