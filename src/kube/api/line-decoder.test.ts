import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ApiProtocolError } from './errors.ts'
import { LineDecoder } from './line-decoder.ts'

function linesOf(decoder: LineDecoder, text: string, chunkBytes: number): string[] {
  const bytes = Buffer.from(text)
  const lines: string[] = []
  for (let at = 0; at < bytes.length; at += chunkBytes) lines.push(...decoder.push(bytes.subarray(at, at + chunkBytes)))
  return lines
}

test('lines come out whole however the bytes are chunked, also in the middle of a character', () => {
  const text = '{"a":"grüße"}\n{"b":"日本"}\r\n\n  \n{"c":1}\nunfinished'
  for (let chunkBytes = 1; chunkBytes <= text.length; chunkBytes++) {
    const lines = linesOf(new LineDecoder(1000), text, chunkBytes)
    assert.deepEqual(
      lines.map((line) => JSON.parse(line)),
      [{ a: 'grüße' }, { b: '日本' }, { c: 1 }],
    )
  }
})

test('a line longer than the limit is an error, wherever the chunks end', () => {
  for (const chunkBytes of [1, 4, 100]) {
    assert.deepEqual(linesOf(new LineDecoder(8), '12345678\n1234\n', chunkBytes), ['12345678', '1234'])
    assert.throws(() => linesOf(new LineDecoder(8), '1234\n123456789', chunkBytes), ApiProtocolError)
  }
})
