import assert from 'node:assert/strict'
import { test } from 'node:test'
import { endStale } from './end-stale.ts'

const own = [{ address: '192.0.2.7', prefixLength: 24 }]

/** What is done to a connection and a link from this address. */
function fateOf(localAddress: string | undefined): string[] {
  const fate: string[] = []
  endStale(
    {
      connections: [
        {
          localAddress,
          abort: ({ message }) => fate.push(message),
          noteAsked: () => fate.push('asked'),
        },
      ],
      links: [{ localAddress, abandon: ({ message }) => fate.push(message), probe: () => fate.push('asked') }],
    },
    own,
  )
  return fate
}

test('what was made from an address that is gone ends', () => {
  const gone = 'this node no longer has the address 192.0.2.6'
  assert.deepEqual(fateOf('192.0.2.6'), [gone, gone])
})

test('everything else is asked: what the address tells is not whether the peer is still there', () => {
  assert.deepEqual(fateOf('192.0.2.7'), ['asked', 'asked'])
  assert.deepEqual(fateOf('127.0.0.1'), ['asked', 'asked'])
  assert.deepEqual(fateOf(undefined), ['asked', 'asked'])
})
