package shadow

import "strconv"

// Error is a refusal with the code and text of the protocol ("Device Shadow error messages").
type Error struct {
	Code    int    // 400, 404, 409, 413, 415, 429, 500 ...
	Message string // as AWS words it
	Token   string // the clientToken of the request as a JSON string with its quotes, "" when it had none
}

// Messages of refusals. Invalid JSON is followed by a reason.
const (
	msgJSON     = "Invalid JSON"
	msgEncoding = "Unsupported documented encoding; supported encoding is UTF-8"
	msgTooLarge = "The payload exceeds the maximum size allowed"
	msgToken    = "Invalid clientToken"
	msgVersion  = "Invalid version"
	msgNoState  = "Missing required node: state"
	msgState    = "State node must be an object"
	msgDesired  = "Desired node must be an object"
	msgReported = "Reported node must be an object"
	msgUnknown  = "State contains an invalid node"
	msgDepth    = "JSON contains too many levels of nesting; maximum is "
	msgConflict = "Version conflict"
	msgNotFound = "No shadow exists with name: "
)

// Error returns the code and the message.
func (e *Error) Error() string {
	return strconv.Itoa(e.Code) + " " + e.Message
}

// AppendRejected appends the body of a .../rejected message. now is in ms.
func (e *Error) AppendRejected(dst []byte, now int64) []byte {
	dst = append(dst, `{"code":`...)
	dst = strconv.AppendInt(dst, int64(e.Code), 10)
	dst = append(dst, `,"message":`...)
	dst = appendQuoted(dst, e.Message)
	return appendTail(dst, now, e.Token)
}

// NotFound is the 404 of a get or delete. token is as in [Error].
func NotFound(id ID, token string) *Error {
	return &Error{Code: 404, Message: msgNotFound + "'" + id.String() + "'", Token: token}
}
