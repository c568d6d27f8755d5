import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { createBodyDecoder } from './body-decoder.ts'
import { type BodyFraming, MessageError } from './head.ts'

/** What a decoder makes of bytes that arrive in pieces of a size. */
function decode(framing: BodyFraming, bytes: string, pieceSize: number) {
  const decoder = createBodyDecoder(framing)
  const all = Buffer.from(bytes, 'latin1')
  let body = ''
  let trailers = ''
  let isEnded = false
  let taken = 0
  for (let at = 0; at < all.length && !decoder.isComplete; at += pieceSize) {
    const piece = all.subarray(at, at + pieceSize)
    taken =
      at +
      decoder.take(piece, 0, {
        onData(chunk) {
          body += chunk.toString('latin1')
        },
        onEnd(fields) {
          isEnded = true
          trailers = fields?.render() ?? ''
        },
      })
  }
  return { body, trailers, isEnded, rest: all.subarray(taken).toString('latin1') }
}

const chunked = '4\r\nWiki\r\n6;name="x"\r\npedia \r\nB\r\nin \r\nchunks\r\n0\r\nX-Sum: abc\r\n\r\nnext'

suite('a body', () => {
  test('ends where its framing says, however the bytes arrive', () => {
    for (let size = 1; size <= chunked.length; size++) {
      assert.deepEqual(decode({ kind: 'chunked' }, chunked, size), {
        body: 'Wikipedia in \r\nchunks',
        trailers: 'X-Sum: abc\r\n',
        isEnded: true,
        rest: 'next'.slice(0, 4),
      })
      assert.deepEqual(decode({ kind: 'length', length: 4 }, 'bodynext', size), {
        body: 'body',
        trailers: '',
        isEnded: true,
        rest: 'next',
      })
    }
  })

  test('of no bytes is complete from the start', () => {
    for (const framing of [{ kind: 'none' }, { kind: 'length', length: 0 }] as const) {
      assert.equal(createBodyDecoder(framing).isComplete, true)
    }
  })

  test('until the end of the connection is never complete', () => {
    assert.deepEqual(decode({ kind: 'until-close' }, 'abc', 2), { body: 'abc', trailers: '', isEnded: false, rest: '' })
  })

  for (const bytes of [
    '\r\n',
    'g\r\n',
    '-1\r\n',
    '+1\r\n',
    '0x1\r\na\r\n',
    ' 1\r\na\r\n',
    '1 \r\na\r\n',
    '1\na\r\n0\r\n\r\n',
    '1\r\nab\r\n0\r\n\r\n',
    '1\r\na\n0\r\n\r\n',
    '10000000000000\r\n',
    `1;${'x'.repeat(300)}\r\na\r\n`,
    '1;\0\r\na\r\n',
    '0\r\nbad trailer\r\n\r\n',
    '0\r\n folded: x\r\n\r\n',
    `0\r\n${'X: y\r\n'.repeat(5000)}\r\n`,
  ]) {
    test(`is refused as chunked: ${JSON.stringify(bytes.slice(0, 24))}`, () => {
      for (const size of [1, bytes.length]) assert.throws(() => decode({ kind: 'chunked' }, bytes, size), MessageError)
    })
  }
})
