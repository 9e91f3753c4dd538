package demo

import (
	"fmt"
	"net"
	"time"
)

// Roles of the three instances.
const (
	Web = "web"
	App = "app"
	DB  = "db"
)

// What stands out in the story, by the number of the request.
const (
	slowEvery = 7  // searches the orders, for which the database takes a third of a second and more
	loseAt    = 12 // of forty: the web tier's request is lost on its way to the app and sent again
	refuseAt  = 25 // of forty: the database takes no further connection, the visitor gets a 503
	ofEach    = 40
)

// shop is the three tiers at work.
type shop struct {
	net          *network
	end          time.Time // no request begins after it
	web, app, db *host
	upstream     []*endpoint // web's idle connections to app
	pool         []*endpoint // app's idle connections to db
	requests     int
	busy         int // visits that are going on
}

// Conversation is what each instance (Web, App, DB) sees of a shop's traffic, in time order. A packet between two of
// them is with both: first where it was sent, 120 to 520 µs later where it arrived; lost ones are with the sender
// alone. The same arguments give the same packets. The last visitors are let finish: all ends before duration has
// passed if that is two seconds or more.
func Conversation(start time.Time, seed uint64, duration time.Duration) map[string][]Packet {
	n := newNetwork(start, seed)
	s := &shop{
		net: n, end: start.Add(max(duration-1500*time.Millisecond, duration/4)),
		web: instance(Web, 10), app: instance(App, 20), db: instance(DB, 30),
	}
	for range 4 {
		n.after(n.between(time.Millisecond, 20*time.Millisecond), func() {
			s.connectDB(func(c *endpoint) { s.pool = append(s.pool, c) }, nil)
		})
	}
	s.busy++ // so that nothing shuts before the first visitor
	n.after(n.between(60*time.Millisecond, 80*time.Millisecond), func() { s.visits(0) })
	n.run()
	return n.seen
}

// instance is a host of TEST-NET-1 (RFC 5737) with a MAC address for documentation (RFC 7042 section 2.1.1).
func instance(role string, last byte) *host {
	return &host{
		role: role, ip: net.IPv4(192, 0, 2, last).To4(), mac: net.HardwareAddr{0, 0, 0x5e, 0, 0x53, last}, ttl: 64,
		delay: 120 * time.Microsecond, jitter: 400 * time.Microsecond, nextPort: 40000 + uint16(last)*64,
	}
}

// visitor is a host of TEST-NET-2, somewhere behind the router.
func (s *shop) visitor(number int) *host {
	r := s.net.random
	return &host{
		ip: net.IPv4(198, 51, 100, byte(20+number%200)).To4(), mac: net.HardwareAddr{0, 0, 0x5e, 0, 0x53, 1},
		ttl: uint8(64 - 8 - r.IntN(8)), nextPort: uint16(32768 + r.IntN(28000)),
		delay: s.net.between(6*time.Millisecond, 25*time.Millisecond), jitter: time.Millisecond,
	}
}

// visits has visitors come until the end.
func (s *shop) visits(number int) {
	if s.net.now.After(s.end) {
		s.leave()
		return
	}
	s.busy++
	h, cookie := s.visitor(number), fmt.Sprintf("%016x", s.net.random.Uint64())
	s.net.connect(h, s.web, 80, func(c *endpoint) { s.visit(c, cookie, 2+s.net.random.IntN(4)) })
	s.net.after(s.net.between(120*time.Millisecond, 320*time.Millisecond), func() { s.visits(number + 1) })
}

// visit sends some requests, one after the other, on a visitor's connection.
func (s *shop) visit(c *endpoint, cookie string, left int) {
	if left == 0 || s.net.now.After(s.end) {
		c.close()
		s.leave()
		return
	}
	o := s.order(c.host, cookie)
	c.send(o.fromVisitor(), func() {
		s.net.after(s.net.between(60*time.Microsecond, 250*time.Microsecond), func() {
			s.serve(o, c.peer, func() {
				s.net.after(s.net.between(80*time.Millisecond, 300*time.Millisecond), func() { s.visit(c, cookie, left-1) })
			})
		})
	})
}

// leave shuts the shop after the last visitor.
func (s *shop) leave() {
	if s.busy--; s.busy > 0 {
		return
	}
	for _, c := range s.upstream {
		c.close()
	}
	for _, c := range s.pool {
		s.disconnectDB(c)
	}
}

// order is the next request; its number decides what happens to it.
func (s *shop) order(h *host, cookie string) *order {
	s.requests++
	o := &order{number: s.requests, id: fmt.Sprintf("req-%04d", s.requests), client: h.ip.String(), cookie: cookie}
	pages := []func() page{
		cart,
		func() page { return catalogue(s.net.random.IntN(6)) },
		func() page { return product(s.net.random.IntN(8)) },
		func() page { return putInCart(s.net.random.IntN(8)) },
	}
	switch {
	case o.refused():
		o.page = checkout()
	case o.slow():
		o.page = history()
	default:
		o.page = pages[s.net.random.IntN(len(pages))]()
	}
	return o
}

func (o *order) refused() bool { return o.number%ofEach == refuseAt }
func (o *order) lost() bool    { return o.number%ofEach == loseAt }
func (o *order) slow() bool    { return o.number%slowEvery == 0 && !o.refused() && !o.lost() }

// serve is the web tier: it passes the request on and the answer back.
func (s *shop) serve(o *order, visitor *endpoint, answered func()) {
	s.withUpstream(func(c *endpoint) {
		s.ask(o, c, func(refused bool) {
			s.upstream = append(s.upstream, c)
			s.net.after(s.net.between(40*time.Microsecond, 120*time.Microsecond), func() {
				answer := o.answer("nginx", s.net.now)
				if refused {
					answer = o.sorry("nginx", s.net.now)
				}
				visitor.send(answer, answered)
			})
		})
	})
}

// withUpstream takes an idle connection to the app, or a new one.
func (s *shop) withUpstream(f func(*endpoint)) {
	if last := len(s.upstream) - 1; last >= 0 {
		c := s.upstream[last]
		s.upstream = s.upstream[:last]
		f(c)
		return
	}
	s.net.connect(s.web, s.app, 8080, f)
}

// ask sends the request to the app tier, which answers once the database has.
func (s *shop) ask(o *order, c *endpoint, answered func(refused bool)) {
	send := func(message []byte, refused bool) {
		s.net.after(s.net.between(100*time.Microsecond, 400*time.Microsecond), func() {
			c.peer.send(message, func() { answered(refused) })
		})
	}
	request := c.send
	if o.lost() {
		request = c.sendLost
	}
	request(o.fromWeb(), func() {
		s.net.after(s.net.between(150*time.Microsecond, 500*time.Microsecond), func() {
			s.withDB(o, func(db *endpoint) {
				s.query(o, db, func() {
					s.pool = append(s.pool, db)
					send(o.answer("shop-app", s.net.now), false)
				})
			}, func() { send(o.sorry("shop-app", s.net.now), true) })
		})
	})
}

// withDB takes an idle connection to the database, or a new one, which the database may refuse.
func (s *shop) withDB(o *order, f func(*endpoint), refused func()) {
	if o.refused() {
		s.connectDB(nil, refused)
		return
	}
	if last := len(s.pool) - 1; last >= 0 {
		c := s.pool[last]
		s.pool = s.pool[:last]
		f(c)
		return
	}
	s.connectDB(f, nil)
}

// connectDB logs in to the database. With refused set that is what happens.
func (s *shop) connectDB(opened func(*endpoint), refused func()) {
	s.net.connect(s.app, s.db, 5432, func(c *endpoint) {
		c.send(pgStartup(), func() {
			s.net.after(s.net.between(900*time.Microsecond, 2*time.Millisecond), func() {
				if refused != nil {
					c.peer.send(pgTooMany(), refused)
					c.peer.close()
					return
				}
				c.peer.send(pgWelcome(s.net.random.Int32N(30000)+300, s.net.random.Int32()), func() { opened(c) })
			})
		})
	})
}

func (s *shop) disconnectDB(c *endpoint) {
	c.send(pgTerminate(), nil)
	c.close()
}

// query sends the two statements of a request, one after the other.
func (s *shop) query(o *order, c *endpoint, answered func()) {
	work := s.net.between(300*time.Microsecond, 2*time.Millisecond)
	if o.slow() {
		work = s.net.between(330*time.Millisecond, 480*time.Millisecond)
	}
	s.roundTrip(c, pgQuery(o.session()), s.net.between(150*time.Microsecond, 500*time.Microsecond),
		pgRows([]string{"user_id", "name"}, [][]string{{"7", "Ada"}}), func() {
			s.roundTrip(c, pgQuery(o.statement()), work, o.result(), answered)
		})
}

// roundTrip sends a statement to the database, which works and then answers.
func (s *shop) roundTrip(c *endpoint, query []byte, work time.Duration, answer []byte, answered func()) {
	c.send(query, func() {
		s.net.after(work, func() {
			c.peer.send(answer, func() {
				s.net.after(s.net.between(30*time.Microsecond, 90*time.Microsecond), answered)
			})
		})
	})
}
