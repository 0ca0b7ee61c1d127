package mapping

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/types"
	"github.com/expr-lang/expr/vm"

	"github.com/umbra-iot/umbra/shadow"
)

// Bounds of expressions.
const (
	maxExprBytes  = 1024
	maxExprNodes  = 200
	maxExprMemory = 100_000 // elements that one evaluation may make
)

// expression is a compiled expression of the escape hatch.
type expression struct {
	text     string
	program  *vm.Program
	document bool // it uses reported or desired
}

// exprEnv is what an expression sees besides the value; it is decoded only when there is one.
type exprEnv struct {
	environment
	doc *shadow.Document
}

// compileExpr compiles an expression whose names are value, payload, topic, reported, desired, thing,
// client, user and the captures.
func compileExpr(text string, captures []string) (*expression, error) {
	if len(text) > maxExprBytes {
		return nil, fmt.Errorf("the expression has more than %d bytes", maxExprBytes)
	}
	env := types.Map{
		"value": types.Any, "payload": types.Any, "reported": types.Any, "desired": types.Any,
		"topic": types.String, "thing": types.String, "client": types.String, "user": types.String,
	}
	for _, c := range captures {
		env[c] = types.String
	}
	options := []expr.Option{expr.Env(env), expr.MaxNodes(maxExprNodes)}
	for _, name := range []string{"now", "date", "duration", "timezone", "repeat"} {
		options = append(options, expr.DisableBuiltin(name))
	}
	program, err := expr.Compile(text, options...)
	if err != nil {
		return nil, fmt.Errorf("bad expression: %w", err)
	}
	e := &expression{text: text, program: program}
	for _, c := range program.Constants {
		if s, ok := c.(string); ok && (s == "reported" || s == "desired") {
			e.document = true
		}
	}
	return e, nil
}

// eval evaluates the expression. nil is the zero Value: nothing is written.
func (e *expression) eval(env *exprEnv, value shadow.Value) (shadow.Value, *refusal) {
	out, err := e.run(env, value)
	if err != nil {
		return shadow.Value{}, refuse(CodeExpr, "%v", err)
	}
	if out == nil {
		return shadow.Value{}, nil
	}
	text, err := json.Marshal(out)
	if err != nil {
		return shadow.Value{}, refuse(CodeExpr, "the result is no JSON value: %v", err)
	}
	v, err := shadow.ParseValue(text, jsonLimits)
	if err != nil {
		return shadow.Value{}, refuse(CodeExpr, "the result is no JSON value: %v", err)
	}
	return v, nil
}

// test evaluates a condition.
func (e *expression) test(env *exprEnv, value shadow.Value) (bool, *refusal) {
	out, err := e.run(env, value)
	if err != nil {
		return false, refuse(CodeExpr, "%v", err)
	}
	b, ok := out.(bool)
	if !ok {
		return false, refuse(CodeExpr, "the condition is not a bool")
	}
	return b, nil
}

func (e *expression) run(env *exprEnv, value shadow.Value) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the expression failed: %v", p)
		}
	}()
	names := map[string]any{
		"value": plain(value), "payload": plain(env.payload), "topic": env.topic,
		"thing": env.thing, "client": env.client, "user": env.user,
		"reported": nil, "desired": nil,
	}
	if e.document {
		names["reported"], names["desired"] = plain(env.doc.Reported()), plain(env.doc.Desired())
	}
	for _, c := range env.caps {
		names[c.name] = c.text
	}
	machine := vm.VM{MemoryBudget: maxExprMemory}
	out, err = machine.Run(e.program, names)
	if err != nil {
		return nil, errors.New(firstLine(err.Error()))
	}
	return out, nil
}

// plain decodes a value as expressions want it: numbers are float64, or int where they are whole.
func plain(v shadow.Value) any {
	if !v.Exists() {
		return nil
	}
	var out any
	if err := json.Unmarshal(v.Raw(), &out); err != nil {
		return nil
	}
	return out
}

func firstLine(s string) string {
	for i, r := range s {
		if r == '\n' {
			return s[:i]
		}
	}
	return s
}
