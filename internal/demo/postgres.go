package demo

import (
	"encoding/binary"
	"fmt"
)

// The messages of the PostgreSQL protocol, version 3.0, as in "Message Formats" of its manual.

// pgMessage is a message of a kind: its length counts itself and what follows.
func pgMessage(kind byte, parts ...any) []byte {
	body := pgFields(parts...)
	message := append([]byte{kind}, binary.BigEndian.AppendUint32(nil, uint32(len(body)+4))...)
	return append(message, body...)
}

// pgFields joins numbers, bytes, and strings with the zero that ends them.
func pgFields(parts ...any) []byte {
	var b []byte
	for _, part := range parts {
		switch part := part.(type) {
		case byte:
			b = append(b, part)
		case int16:
			b = binary.BigEndian.AppendUint16(b, uint16(part))
		case int32:
			b = binary.BigEndian.AppendUint32(b, uint32(part))
		case string:
			b = append(append(b, part...), 0)
		case []byte:
			b = append(b, part...)
		default:
			panic(fmt.Sprintf("demo: %T in a message", part))
		}
	}
	return b
}

// pgStartup is what a client says first; it alone has no kind.
func pgStartup() []byte {
	const version3 = int32(3 << 16)
	body := pgFields(version3, "user", "shop", "database", "shop", "application_name", "shop-app",
		"client_encoding", "UTF8", byte(0))
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...)
}

// pgWelcome lets a client in without a password, as "trust" in pg_hba.conf does.
func pgWelcome(process, secret int32) []byte {
	welcome := pgMessage('R', int32(0))
	for _, setting := range [][2]string{
		{"server_version", "16.4"}, {"server_encoding", "UTF8"}, {"client_encoding", "UTF8"},
		{"DateStyle", "ISO, MDY"}, {"TimeZone", "UTC"}, {"integer_datetimes", "on"},
		{"standard_conforming_strings", "on"}, {"application_name", "shop-app"},
	} {
		welcome = append(welcome, pgMessage('S', setting[0], setting[1])...)
	}
	welcome = append(welcome, pgMessage('K', process, secret)...)
	return append(welcome, pgReady()...)
}

// pgTooMany refuses a client when all connections are taken.
func pgTooMany() []byte {
	return pgMessage('E', []byte("S"), "FATAL", []byte("V"), "FATAL", []byte("C"), "53300",
		[]byte("M"), "sorry, too many clients already", []byte("F"), "proc.c", []byte("L"), "355",
		[]byte("R"), "InitProcess", byte(0))
}

func pgQuery(sql string) []byte { return pgMessage('Q', sql) }

// pgRows answers a query. All columns are text here.
func pgRows(columns []string, rows [][]string) []byte {
	const typeText, anyLength, noModifier, asText = int32(25), int16(-1), int32(-1), int16(0)
	fields := []any{int16(len(columns))}
	for i, column := range columns {
		fields = append(fields, column, int32(16401), int16(i+1), typeText, anyLength, noModifier, asText)
	}
	answer := pgMessage('T', fields...)
	for _, row := range rows {
		values := []any{int16(len(row))}
		for _, value := range row {
			values = append(values, int32(len(value)), []byte(value))
		}
		answer = append(answer, pgMessage('D', values...)...)
	}
	return append(answer, pgDone(fmt.Sprintf("SELECT %d", len(rows)))...)
}

// pgDone ends the answer to a statement.
func pgDone(tag string) []byte { return append(pgMessage('C', tag), pgReady()...) }

func pgReady() []byte { return pgMessage('Z', []byte("I")) }

func pgTerminate() []byte { return pgMessage('X') }
