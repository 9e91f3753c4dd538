package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"
)

// writeYAML writes a JSON object as YAML in block style. Strings stay in quotes: those of JSON mean the same in YAML.
func writeYAML(w io.Writer, text []byte) error {
	y := yaml{json.NewDecoder(bytes.NewReader(text)), new(strings.Builder)}
	y.in.UseNumber()
	if err := y.value(0, false); err != nil {
		return err
	}
	_, err := io.WriteString(w, y.out.String())
	return err
}

type yaml struct {
	in  *json.Decoder
	out *strings.Builder
}

// value writes the next value behind what stands on the line: a key, or with item the dash of a list.
func (y yaml) value(indent int, item bool) error {
	token, err := y.in.Token()
	if err != nil {
		return err
	}
	switch {
	case token == json.Delim('{') && !y.in.More():
		y.out.WriteString(" {}\n")
	case token == json.Delim('[') && !y.in.More():
		y.out.WriteString(" []\n")
	case token == json.Delim('{'):
		err = y.object(indent, item)
	case token == json.Delim('['):
		err = y.list(indent)
	default:
		y.out.WriteString(" " + yamlScalar(token) + "\n")
		return nil
	}
	if err == nil {
		_, err = y.in.Token() // its end
	}
	return err
}

// object writes keys one below the other; the first one of a list's item stands behind its dash.
func (y yaml) object(indent int, item bool) error {
	if y.out.Len() > 0 && !item {
		y.out.WriteByte('\n')
	}
	for first := true; y.in.More(); first = false {
		key, err := y.in.Token()
		if err != nil {
			return err
		}
		margin := strings.Repeat("  ", indent)
		if item && first {
			margin = " "
		}
		fmt.Fprintf(y.out, "%s%v:", margin, key) // keys are ours
		if err := y.value(indent+1, false); err != nil {
			return err
		}
	}
	return nil
}

func (y yaml) list(indent int) error {
	y.out.WriteByte('\n')
	for y.in.More() {
		y.out.WriteString(strings.Repeat("  ", indent) + "-")
		if err := y.value(indent+1, true); err != nil {
			return err
		}
	}
	return nil
}

func yamlScalar(token json.Token) string {
	switch v := token.(type) {
	case nil:
		return "null"
	case string:
		return yamlString(v)
	}
	return fmt.Sprint(token)
}

// yamlString is a string in double quotes. What cannot be seen is escaped, as YAML wants it of control characters
// (YAML 1.2, section 5.1) that JSON may hold as they are.
func yamlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
