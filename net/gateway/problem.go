package gateway

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"
)

// The codes of problems. They are part of the interface: clients tell errors apart by them.
const (
	CodeBadRequest         = "bad-request"
	CodeUnauthenticated    = "unauthenticated"
	CodeTokenExpired       = "token-expired"
	CodeTokenRevoked       = "token-revoked"
	CodeForbidden          = "forbidden"
	CodeNotFound           = "not-found"
	CodePreconditionFailed = "precondition-failed"
	CodeTooLarge           = "too-large"
	CodeRateLimited        = "rate-limited"
	CodeDiskFull           = "disk-full"
	CodeBusy               = "busy"
	CodeConflict           = "conflict"
	CodeCursorGone         = "cursor-gone"
)

// Problem is an error that is told to a client, as application/problem+json (RFC 9457) over HTTP.
type Problem struct {
	Status     int    // of HTTP
	Code       string // for programs
	Detail     string // for people
	RetryAfter time.Duration
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// problemOf returns what to tell of an error.
func problemOf(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return &Problem{Status: http.StatusServiceUnavailable, Code: CodeBusy, Detail: err.Error()}
}

// writeProblem answers a request with an error.
func writeProblem(w http.ResponseWriter, err error) {
	p := problemOf(err)
	w.Header().Set("Content-Type", "application/problem+json")
	if p.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(p.RetryAfter/time.Second)+1))
	}
	w.WriteHeader(p.Status)
	b, err := json.Marshal(map[string]any{"title": http.StatusText(p.Status), "status": p.Status, "code": p.Code, "detail": p.Detail})
	if err == nil {
		w.Write(b)
	}
}
