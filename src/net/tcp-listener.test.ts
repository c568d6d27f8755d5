import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { text } from 'node:stream/consumers'
import { test } from 'node:test'
import { createDirectDialer } from './direct-dialer.ts'
import { AddressInUseError, ListenPermissionError, listenErrorOf } from './listen-error.ts'
import { startTcpListener } from './tcp-listener.ts'

const never = new AbortController().signal
const ignore = () => {}

test('a taken address is its own class of error and names the place', async () => {
  await using first = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: ignore })
  await assert.rejects(startTcpListener({ host: '127.0.0.1', port: first.port, onConnection: ignore }), (error) => {
    assert.ok(error instanceof AddressInUseError)
    assert.equal(error.port, first.port)
    assert.equal(error.message, `Cannot listen on tcp 127.0.0.1:${first.port}: address is already in use`)
    assert.match(error.remedy, new RegExp(`ss -lntp "sport = :${first.port}"`))
    return true
  })
})

test('with reusePort two listeners share a port', async () => {
  await using first = await startTcpListener({ host: '127.0.0.1', port: 0, reusePort: true, onConnection: ignore })
  const { port } = first
  await using second = await startTcpListener({ host: '127.0.0.1', port, reusePort: true, onConnection: ignore })
  assert.equal(second.port, port)
})

test('an address of another machine is told as such', async () => {
  await assert.rejects(
    startTcpListener({ host: '203.0.113.77', port: 0, onConnection: ignore }),
    /Cannot listen on tcp 203\.0\.113\.77:0: no such address on this node/,
  )
})

test('a missing permission is its own class of error', () => {
  const error = listenErrorOf(Object.assign(new Error('bind EACCES'), { code: 'EACCES' }), 'udp', '::1', 53)
  assert.ok(error instanceof ListenPermissionError)
  assert.match(error.message, /^Cannot listen on udp \[::1\]:53: permission denied/)
})

test('stopping frees the port and leaves open connections alone', async () => {
  const accepted = Promise.withResolvers<Socket>()
  await using listener = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: accepted.resolve })
  const { port } = listener
  const client = await createDirectDialer().dial({ protocol: 'tcp', address: '127.0.0.1', port }, never)
  const server = await accepted.promise
  listener.stopAccepting()
  listener.stopAccepting()
  await using next = await startTcpListener({ host: '127.0.0.1', port, onConnection: ignore })
  assert.equal(next.port, port)
  client.end('still open')
  assert.equal(await text(server), 'still open')
  server.end()
  client.resume()
  await once(client, 'close')
})

test('disposal resets the connections that are still open', async () => {
  const accepted = Promise.withResolvers<Socket>()
  const listener = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: accepted.resolve })
  const client = connect({ host: '127.0.0.1', port: listener.port })
  await accepted.promise
  client.resume()
  const failed = once(client, 'error')
  await listener[Symbol.asyncDispose]()
  assert.equal((await failed)[0].code, 'ECONNRESET')
})

test('with pauseOnConnect nothing is read until the connection is resumed', async () => {
  const accepted = Promise.withResolvers<Socket>()
  const onConnection = accepted.resolve
  await using listener = await startTcpListener({ host: '127.0.0.1', port: 0, pauseOnConnect: true, onConnection })
  const client = connect({ host: '127.0.0.1', port: listener.port })
  client.end('early')
  const server = await accepted.promise
  await once(client, 'finish')
  for (let turns = 0; turns < 20; turns++) await new Promise(setImmediate)
  assert.equal(server.bytesRead, 0)
  assert.equal(await text(server), 'early')
  server.end()
})

test('a listener that ran out of file descriptors accepts again when there are some', async () => {
  const module = JSON.stringify(new URL('./tcp-listener.ts', import.meta.url).href)
  // Keeps one file descriptor, which its own dial takes, so that none is left to accept with; then frees the others.
  const script = `
    import { openSync, closeSync } from 'node:fs'
    import { connect } from 'node:net'
    import { once } from 'node:events'
    const { startTcpListener } = await import(${module})
    let accepted = 0
    const listener = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: () => { accepted += 1 } })
    const held = []
    try { for (;;) held.push(openSync('/dev/null')) } catch {}
    closeSync(held.pop())
    const refused = connect({ host: '127.0.0.1', port: listener.port }).resume()
    await once(refused, 'close')
    if (accepted > 0) throw new Error('there was a file descriptor left')
    for (const fd of held) closeSync(fd)
    connect({ host: '127.0.0.1', port: listener.port })
    while (accepted === 0) await new Promise(setImmediate)
    console.log('accepts again')
    process.exit(0)`
  const child = spawn(
    '/bin/sh',
    ['-c', 'ulimit -n 64; exec "$0" --input-type=module -e "$1"', process.execPath, script],
    { stdio: ['ignore', 'pipe', 'inherit'], timeout: 10_000 },
  )
  assert.equal((await text(child.stdout)).trim(), 'accepts again')
})

test('accepted connections have a keepalive timer, which the kernel takes from the listening socket', async () => {
  const { promise: accepted, resolve } = Promise.withResolvers<Socket>()
  await using listener = await startTcpListener({ host: '127.0.0.1', port: 0, onConnection: resolve })
  const client = connect({ host: '127.0.0.1', port: listener.port })
  const { localPort = 0, remotePort = 0 } = await accepted
  assert.equal(timerOf(localPort, remotePort), '02')
  client.destroy()
})

/** The kind of timer that a connection of IPv4 has: 02 is keepalive. */
function timerOf(localPort: number, remotePort: number): string | undefined {
  const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, '0')
  const isIt = new RegExp(`:${hex(localPort)} [0-9A-F]{8}:${hex(remotePort)} 01 \\S+ (\\S\\S):`)
  return isIt.exec(readFileSync('/proc/net/tcp', 'utf8'))?.[1]
}
