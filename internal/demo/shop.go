package demo

import (
	"fmt"
	"strings"
	"time"
)

// order is one request of a visitor on its way through the shop. Its id is in the HTTP headers of both tiers and in
// the comment of each statement, so that one search in a capture finds all of it.
type order struct {
	number int
	id     string
	page   page
	client string // the visitor's address
	cookie string
}

// page is what the shop can do: the request, and the statement behind it.
type page struct {
	method, path, body string
	sql                string
	columns            []string
	rows               [][]string // no columns: the tag of the statement alone
	status             string
}

// session is the statement that each request needs first.
func (o *order) session() string {
	return fmt.Sprintf("/* %s */ SELECT user_id, name FROM sessions WHERE token = '%s'", o.id, o.cookie)
}

func (o *order) statement() string { return fmt.Sprintf("/* %s */ %s", o.id, o.page.sql) }

// result is the database's answer to the statement.
func (o *order) result() []byte {
	if o.page.columns == nil {
		return pgDone("INSERT 0 1")
	}
	return pgRows(o.page.columns, o.page.rows)
}

// fromVisitor is the request as a browser sends it.
func (o *order) fromVisitor() []byte {
	return o.request("shop.example.com",
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
		"Accept: application/json",
		"Accept-Language: en",
		"Cookie: session="+o.cookie,
		"Connection: keep-alive")
}

// fromWeb is the request as the web tier passes it on.
func (o *order) fromWeb() []byte {
	return o.request("app.shop.internal:8080",
		"X-Request-Id: "+o.id,
		"X-Forwarded-For: "+o.client,
		"X-Forwarded-Proto: http",
		"Accept: application/json",
		"Cookie: session="+o.cookie)
}

func (o *order) request(host string, headers ...string) []byte {
	lines := append([]string{o.page.method + " " + o.page.path + " HTTP/1.1", "Host: " + host}, headers...)
	if o.page.body != "" {
		lines = append(lines, "Content-Type: application/json", fmt.Sprintf("Content-Length: %d", len(o.page.body)))
	}
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n" + o.page.body)
}

// answer is the response of a tier, which names itself.
func (o *order) answer(server string, now time.Time) []byte {
	return o.response(server, now, o.page.status, o.json())
}

// sorry is the response when the database is not to be had.
func (o *order) sorry(server string, now time.Time) []byte {
	return o.response(server, now, "503 Service Unavailable",
		`{"error":"the shop is busy, please try again","request":"`+o.id+`"}`, "Retry-After: 1")
}

func (o *order) response(server string, now time.Time, status, body string, more ...string) []byte {
	const date = "Mon, 02 Jan 2006 15:04:05 GMT" // http.TimeFormat
	lines := append([]string{
		"HTTP/1.1 " + status,
		"Server: " + server,
		"Date: " + now.UTC().Format(date),
		"Content-Type: application/json",
		fmt.Sprintf("Content-Length: %d", len(body)),
		"Cache-Control: no-store",
		"X-Request-Id: " + o.id,
	}, more...)
	return []byte(strings.Join(lines, "\r\n") + "\r\n\r\n" + body)
}

// json is the rows as a web page's script wants them.
func (o *order) json() string {
	items := make([]string, len(o.page.rows))
	for i, row := range o.page.rows {
		fields := make([]string, len(row))
		for j, value := range row {
			fields[j] = fmt.Sprintf("%q:%q", o.page.columns[j], value)
		}
		items[i] = "{" + strings.Join(fields, ",") + "}"
	}
	return fmt.Sprintf(`{"request":"%s","items":[%s]}`, o.id, strings.Join(items, ","))
}

var goods = [][]string{
	{"17", "espresso cup, white", "8.50"}, {"18", "espresso cup, blue", "8.50"}, {"23", "cafetiere, 1 l", "34.00"},
	{"31", "hand grinder", "79.00"}, {"32", "grinder brush", "4.20"}, {"40", "filter papers, 100", "6.90"},
	{"41", "gooseneck kettle", "59.00"}, {"55", "beans, Huehuetenango, 1 kg", "27.00"},
}

func cart() page {
	return page{
		method: "GET", path: "/cart", status: "200 OK",
		sql:     "SELECT g.id, g.name, g.price FROM cart c JOIN goods g ON g.id = c.goods_id WHERE c.user_id = 7",
		columns: []string{"id", "name", "price"}, rows: goods[:3],
	}
}

// catalogue is long enough to take several segments.
func catalogue(number int) page {
	var rows [][]string
	for i := range 30 {
		item := goods[(i+number)%len(goods)]
		rows = append(rows, []string{fmt.Sprint(100*number + i), item[1], item[2], "in stock, leaves within a day"})
	}
	return page{
		method: "GET", path: fmt.Sprintf("/goods?page=%d", number), status: "200 OK",
		sql:     fmt.Sprintf("SELECT id, name, price, state FROM goods ORDER BY id LIMIT 30 OFFSET %d", 30*number),
		columns: []string{"id", "name", "price", "state"}, rows: rows,
	}
}

func product(i int) page {
	item := goods[i%len(goods)]
	return page{
		method: "GET", path: "/goods/" + item[0], status: "200 OK",
		sql:     "SELECT id, name, price FROM goods WHERE id = " + item[0],
		columns: []string{"id", "name", "price"}, rows: [][]string{item},
	}
}

func putInCart(i int) page {
	item := goods[i%len(goods)]
	return page{
		method: "POST", path: "/cart", body: fmt.Sprintf(`{"id":%s,"count":1}`, item[0]), status: "201 Created",
		sql: fmt.Sprintf("INSERT INTO cart (user_id, goods_id, count) VALUES (7, %s, 1)", item[0]),
	}
}

// history is slow: nothing helps the database to find what it asks for.
func history() page {
	return page{
		method: "GET", path: "/orders?q=grinder", status: "200 OK",
		sql:     "SELECT id, placed, total FROM orders WHERE user_id = 7 AND lower(note) LIKE '%grinder%' ORDER BY placed",
		columns: []string{"id", "placed", "total"},
		rows:    [][]string{{"90211", "2026-03-02", "83.20"}, {"93570", "2026-09-18", "79.00"}},
	}
}

func checkout() page {
	return page{
		method: "POST", path: "/checkout", body: `{"cart":7,"pay":"invoice"}`, status: "201 Created",
		sql: "INSERT INTO orders (user_id, total, note) VALUES (7, 121.50, 'leave at the door')",
	}
}
