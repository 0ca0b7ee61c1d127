package mapping

import "strings"

// MatchPattern matches a topic against a pattern through the index, as a rule would be found, and
// returns the captures, "-" for no match.
func MatchPattern(text, topic string) (string, error) {
	p, err := compilePattern(text, nil)
	if err != nil {
		return "", err
	}
	s := &Set{root: &indexNode{}}
	s.root.add(p, ref{0, -1, 0})
	levels := appendLevels(nil, topic)
	caps, ok := p.match(levels)
	if found := len(s.root.find(levels, nil)) > 0; ok && !found {
		return "the index does not find it", nil
	}
	if !ok {
		return "-", nil
	}
	var out []string
	for _, c := range caps {
		out = append(out, c.name+"="+c.text)
	}
	return strings.Join(out, " "), nil
}

// Decode decodes a payload in a form by its name, for tests.
func Decode(name string, payload []byte) (string, error) {
	f, ok := parseForm(name)
	if !ok || f == asSparkplug {
		v, err := DecodeSparkplug(payload)
		return string(v.Raw()), err
	}
	v, bad := decode(f, payload)
	if bad != nil {
		return "", (&Diagnostic{Text: bad.text})
	}
	return string(v.Raw()), nil
}

// Candidates returns how many rules the index finds for a topic, and how many of its levels are looked at.
func (s *Set) Candidates(topic string) (rules, nodes int) {
	levels := appendLevels(nil, topic)
	return len(s.root.find(levels, nil)), s.root.visits(levels)
}

// visits counts the nodes that find looks at.
func (n *indexNode) visits(topic []string) int {
	if n == nil {
		return 0
	}
	if len(topic) == 0 {
		return 1
	}
	return 1 + n.literal[topic[0]].visits(topic[1:]) + n.any.visits(topic[1:])
}
