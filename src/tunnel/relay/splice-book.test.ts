import assert from 'node:assert/strict'
import { afterEach, beforeEach, mock, suite, test } from 'node:test'
import type { TcpSocket } from '../../net/index.ts'
import { SpliceBook, type SpliceTokens } from './splice-book.ts'

const limits = { perNode: 2, total: 3, tokenLifetimeMs: 10_000, bytesPerNodeAndDay: 0 }
const result = { bytesToUpstream: 10, bytesToDownstream: 5, ended: 'finished' } as const

// Tokens that are not redeemed would keep the process for as long as they hold.
beforeEach(() => mock.timers.enable({ apis: ['setTimeout'] }))
afterEach(() => mock.timers.reset())

function createSocket(bytesRead = 0) {
  const socket = {
    bytesRead,
    isDestroyed: false,
    destroy() {
      socket.isDestroyed = true
    },
  }
  return socket as unknown as TcpSocket & { readonly isDestroyed: boolean }
}

function issue(book: SpliceBook, asker = 'a', peer = 'b'): SpliceTokens {
  const tokens = book.issue(asker, peer)
  if (typeof tokens === 'string') assert.fail(tokens)
  return tokens
}

suite('tokens', () => {
  test('join the two ends in any order, the asker first', () => {
    const book = new SpliceBook(limits)
    const tokens = issue(book)
    assert.notEqual(tokens.asker, tokens.peer)
    const [asker, peer] = [createSocket(), createSocket()]
    assert.equal(book.redeem(tokens.peer, peer), undefined)
    assert.deepEqual(book.redeem(tokens.asker, asker)?.sockets, [asker, peer])
  })

  test('are good once', () => {
    const book = new SpliceBook(limits)
    const { asker } = issue(book)
    book.redeem(asker, createSocket())
    const again = createSocket()
    assert.equal(book.redeem(asker, again), undefined)
    assert.ok(again.isDestroyed)
  })

  test('that are withdrawn join nobody, take no room, and end the one that waits', () => {
    const book = new SpliceBook(limits)
    const tokens = issue(book)
    const [early, late] = [createSocket(), createSocket()]
    book.redeem(tokens.asker, early)
    book.withdraw(tokens)
    book.withdraw(tokens)
    assert.equal(book.redeem(tokens.peer, late), undefined)
    assert.deepEqual([book.count, early.isDestroyed, late.isDestroyed], [0, true, true])
    for (let joined = 0; joined < limits.perNode; joined++) issue(book)
  })

  test('that nobody has given out join nobody', () => {
    const socket = createSocket()
    assert.equal(new SpliceBook(limits).redeem('guess', socket), undefined)
    assert.ok(socket.isDestroyed)
  })

  test('expire, and the end that waited is closed', () => {
    const book = new SpliceBook(limits)
    const { asker, peer } = issue(book)
    const waiting = createSocket()
    book.redeem(asker, waiting)
    mock.timers.tick(limits.tokenLifetimeMs)
    assert.ok(waiting.isDestroyed)
    assert.equal(book.count, 0)
    const late = createSocket()
    assert.equal(book.redeem(peer, late), undefined)
    assert.ok(late.isDestroyed)
  })
})

test('ends that wait are closed when the relay stops', () => {
  const book = new SpliceBook(limits)
  const { asker, peer } = issue(book)
  const waiting = createSocket()
  book.redeem(asker, waiting)
  book.abandon()
  assert.ok(waiting.isDestroyed)
  assert.equal(book.count, 0)
  const late = createSocket()
  assert.equal(book.redeem(peer, late), undefined)
  assert.ok(late.isDestroyed)
})

suite('quotas', () => {
  test('hold for either end, and what has ended counts no more', () => {
    const book = new SpliceBook(limits)
    const first = issue(book, 'a', 'b')
    issue(book, 'c', 'a')
    assert.match(String(book.issue('d', 'a')), /^a has 2 connections/)
    const sockets = [createSocket(), createSocket()] as const
    book.redeem(first.asker, sockets[0])
    const joined = book.redeem(first.peer, sockets[1])
    assert.ok(joined)
    book.close(joined.pair, joined.sockets, result)
    issue(book, 'd', 'a')
  })

  test('hold for the relay as a whole', () => {
    const book = new SpliceBook(limits)
    for (const node of ['a', 'c', 'e']) issue(book, node, `${node}-peer`)
    assert.match(String(book.issue('g', 'h')), /as many connections as it may/)
  })
})

test('bytes are accounted to the pair, whoever asked, while it goes on and afterwards', () => {
  const book = new SpliceBook({ ...limits, perNode: 10 })
  for (const [asker, peer] of [
    ['a', 'b'],
    ['b', 'a'],
  ] as const) {
    const tokens = issue(book, asker, peer)
    book.redeem(tokens.asker, createSocket(100))
    const joined = book.redeem(tokens.peer, createSocket(20))
    assert.ok(joined)
    assert.deepEqual(book.pairs[0]?.open, 1)
    if (asker === 'b') continue
    assert.deepEqual(book.pairs, [{ peers: ['a', 'b'], open: 1, bytes: 120 }])
    book.close(joined.pair, joined.sockets, result)
    assert.deepEqual(book.pairs, [{ peers: ['a', 'b'], open: 0, bytes: 15 }])
  }
  assert.deepEqual(book.pairs, [{ peers: ['a', 'b'], open: 1, bytes: 135 }])
  assert.equal(book.bytes, 135)
})

test('cutting a node off closes what is joined to it and what waits for it, and nothing else', () => {
  const book = new SpliceBook({ ...limits, total: 10 })
  const joinedTo = (asker: string, peer: string) => {
    const tokens = issue(book, asker, peer)
    const sockets = [createSocket(), createSocket()] as const
    book.redeem(tokens.asker, sockets[0])
    book.redeem(tokens.peer, sockets[1])
    return sockets
  }
  const [cut, kept] = [joinedTo('a', 'b'), joinedTo('c', 'd')]
  const waiting = createSocket()
  book.redeem(issue(book, 'e', 'a').asker, waiting)
  book.cut('a')
  assert.deepEqual(
    [...cut, waiting].map(({ isDestroyed }) => isDestroyed),
    [true, true, true],
  )
  assert.deepEqual(
    kept.map(({ isDestroyed }) => isDestroyed),
    [false, false],
  )
  // Those that were joined are counted until their end is told.
  assert.equal(book.count, 2)
})

test('a connection of a pair is known however many other pairs have one', () => {
  const book = new SpliceBook({ ...limits, perNode: 10_000, total: 10_000 })
  const joined = Array.from({ length: 4200 }, (_, index) => {
    const socket = createSocket(1)
    book.open(['server', `node-${index}`], [socket])
    return socket
  })
  assert.equal(book.bytes, 4200)
  book.cut('node-4199')
  assert.deepEqual([joined[0]?.isDestroyed, joined[4199]?.isDestroyed], [false, true])
})

test('a node that has used its bytes loses what it has and gets nothing more; others go on', () => {
  const book = new SpliceBook({ ...limits, total: 10, perNode: 10, bytesPerNodeAndDay: 100 })
  const [spent, other] = [createSocket(100), createSocket(5)]
  book.open(['a', 'b'], [spent, createSocket()])
  book.open(['b', 'c'], [other, createSocket()])
  const capped = book.enforceCaps()
  assert.deepEqual([...capped.keys()], ['a', 'b'])
  assert.match(capped.get('a') ?? '', /^it has used the 0.0001 MB a day/)
  assert.ok(spent.isDestroyed && other.isDestroyed)
  assert.match(String(book.issue('c', 'b')), /^b: it has used/)
  issue(book, 'c', 'd')
  book.setLimits({ bytesPerNodeAndDay: 1000 })
  assert.equal(book.enforceCaps().size, 0)
  issue(book, 'c', 'b')
})

test('a node that is shut out loses what it has and gets nothing more until it may come again', () => {
  const book = new SpliceBook({ ...limits, total: 10, perNode: 10 })
  const [lost, kept] = [createSocket(), createSocket()]
  book.open(['a', 'b'], [lost, createSocket()])
  book.open(['b', 'c'], [kept, createSocket()])
  book.shutOut(new Set(['a']))
  assert.deepEqual(
    [lost, kept].map(({ isDestroyed }) => isDestroyed),
    [true, false],
  )
  assert.deepEqual([...book.enforceCaps()], [['a', 'this relay has revoked it']])
  assert.equal(book.issue('b', 'a'), 'a: this relay has revoked it')
  book.shutOut(new Set())
  assert.equal(book.enforceCaps().size, 0)
  issue(book, 'b', 'a')
})

test('what was carried by connections that have ended counts as well', () => {
  const book = new SpliceBook({ ...limits, bytesPerNodeAndDay: 100 })
  for (const _round of [1, 2]) {
    const sockets = [createSocket(50), createSocket()]
    book.open(['a', 'b'], sockets)
    book.close(['a', 'b'], sockets, result)
  }
  assert.equal(book.count, 0)
  assert.equal(book.enforceCaps().size, 2)
})
