package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/anabranch-db/anabranch/crdt"
	"github.com/anabranch-db/anabranch/replica"
	"github.com/anabranch-db/anabranch/replica/store"
)

// The codes of problems. They are part of the interface: clients tell errors apart by them.
const (
	CodeBadRequest         = "bad-request"
	CodeUnauthenticated    = "unauthenticated"
	CodeTokenExpired       = "token-expired"
	CodeTokenRevoked       = "token-revoked"
	CodeForbidden          = "forbidden"
	CodeHost               = "host-not-listed"
	CodeOrigin             = "origin-not-listed"
	CodeNotFound           = "not-found"
	CodeMethod             = "method-not-allowed"
	CodeTimeout            = "timeout"
	CodePreconditionFailed = "precondition-failed"
	CodeMediaType          = "unsupported-media-type"
	CodeTooLarge           = "too-large"
	CodeCounterRange       = "counter-range"
	CodeRateLimited        = "rate-limited"
	CodeDiskFull           = "disk-full"
	CodeBusy               = "busy"
	CodeInternal           = "internal"
	CodeConflict           = "conflict"
	CodeCursorGone         = "cursor-gone"
)

// Problem is an error that is told to a client, as application/problem+json (RFC 9457) over HTTP.
type Problem struct { //nolint:errname // it is what the RFC calls it, and what clients are told
	Status     int    // of HTTP
	Code       string // for programs
	Detail     string // for people
	RetryAfter time.Duration
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// Is makes two problems of one code the same to errors.Is.
func (p *Problem) Is(target error) bool {
	t, ok := target.(*Problem)
	return ok && t.Code == p.Code
}

func badRequest(detail string) *Problem {
	return &Problem{Status: http.StatusBadRequest, Code: CodeBadRequest, Detail: detail}
}

// causes lists which errors of other packages are which problems. The order matters: an error gets the first that fits.
var causes = []struct {
	err    error
	status int
	code   string
	retry  time.Duration
}{
	{replica.ErrPermission, http.StatusForbidden, CodeForbidden, 0},
	{replica.ErrNotFound, http.StatusNotFound, CodeNotFound, 0},
	{replica.ErrCursor, http.StatusGone, CodeCursorGone, 0},
	{crdt.ErrLimit, http.StatusRequestEntityTooLarge, CodeTooLarge, 0},
	{crdt.ErrCounterRange, http.StatusUnprocessableEntity, CodeCounterRange, 0},
	{crdt.ErrKey, http.StatusBadRequest, CodeBadRequest, 0},
	{crdt.ErrPath, http.StatusBadRequest, CodeBadRequest, 0},
	{crdt.ErrValue, http.StatusBadRequest, CodeBadRequest, 0},
	{crdt.ErrJSON, http.StatusBadRequest, CodeBadRequest, 0},
	{replica.ErrSpace, http.StatusBadRequest, CodeBadRequest, 0},
	{store.ErrNoSpace, http.StatusInsufficientStorage, CodeDiskFull, time.Minute},
	{syscall.ENOSPC, http.StatusInsufficientStorage, CodeDiskFull, time.Minute},
	{replica.ErrClosed, http.StatusServiceUnavailable, CodeBusy, 2 * time.Second},
	{context.DeadlineExceeded, http.StatusServiceUnavailable, CodeBusy, 2 * time.Second},
	{context.Canceled, http.StatusServiceUnavailable, CodeBusy, 2 * time.Second},
	{store.ErrReadOnly, http.StatusServiceUnavailable, CodeBusy, time.Minute},
}

// problemOf returns what to tell of an error. What is no fault of the client and not expected is not told in detail: it may name
// files of the node.
func problemOf(err error) *Problem {
	if p := (*Problem)(nil); errors.As(err, &p) {
		return p
	}
	if tooLong := (*http.MaxBytesError)(nil); errors.As(err, &tooLong) {
		return &Problem{Status: http.StatusRequestEntityTooLarge, Code: CodeTooLarge, Detail: "the body has more than " + strconv.FormatInt(tooLong.Limit, 10) + " bytes"}
	}
	for _, c := range causes {
		if errors.Is(err, c.err) {
			return &Problem{Status: c.status, Code: c.code, Detail: err.Error(), RetryAfter: c.retry}
		}
	}
	return &Problem{Status: http.StatusInternalServerError, Code: CodeInternal, Detail: "the node failed to do that; its log says why"}
}

// problemBody is a Problem as RFC 9457 has it. Its type is about:blank: the code tells problems apart.
type problemBody struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Code   string `json:"code"`
}

// writeProblem answers a request with an error.
func writeProblem(w http.ResponseWriter, err error) {
	p := problemOf(err)
	h := w.Header()
	for _, name := range []string{"Etag", "Last-Modified", "Content-Length"} { // of the answer that was not to be
		h.Del(name)
	}
	h.Set("Content-Type", "application/problem+json")
	h.Set("Cache-Control", "no-store")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", challenge(p.Code))
	}
	if counted, ok := w.(interface{ refused(code string) }); ok {
		counted.refused(p.Code)
	}
	body, err := json.Marshal(problemBody{http.StatusText(p.Status), p.Status, p.Detail, p.Code})
	if err != nil {
		body = []byte(`{"title":"Internal Server Error","status":500,"code":"internal"}`)
	}
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // an error means that the client has gone, and there is nobody to tell
}

// challenge is what RFC 6750 wants beside a 401.
func challenge(code string) string {
	if code == CodeUnauthenticated {
		return `Bearer realm="anabranch"`
	}
	return `Bearer realm="anabranch", error="invalid_token", error_description="` + code + `"`
}
