import assert from 'node:assert/strict'
import { once } from 'node:events'
import { suite, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import {
  connectThroughProxy,
  environmentProxyOf,
  type HttpProxy,
  ProxyAddressError,
  ProxyError,
  parseHttpProxy,
} from './http-proxy.ts'
import { startTcpListener, type TcpSocket } from './tcp-listener.ts'

const never = new AbortController().signal
const target = { host: 'mesh.example.org', port: 443 }

/** A proxy that answers each request with this text, or with nothing, and keeps what it was asked. */
async function startProxy(answer: string | undefined, user = '') {
  const requests: string[] = []
  const listener = await startTcpListener({
    host: '127.0.0.1',
    port: 0,
    onConnection(socket) {
      socket.once('data', (bytes) => {
        requests.push(String(bytes))
        if (answer !== undefined) void say(socket, answer)
      })
    },
  })
  const proxy = parseHttpProxy(`http://${user}127.0.0.1:${listener.port}`)
  return { proxy, requests, [Symbol.asyncDispose]: () => listener[Symbol.asyncDispose]() }
}

/** Byte by byte at first, as a slow line would. */
async function say(socket: TcpSocket, text: string): Promise<void> {
  socket.write(text.slice(0, 1))
  await delay(5)
  socket.write(text.slice(1))
}

const refusal = async (proxy: HttpProxy) => {
  const error: unknown = await connectThroughProxy(proxy, target, never).catch((reason: unknown) => reason)
  assert.ok(error instanceof ProxyError, String(error))
  return `${error.message.replaceAll(proxy.text, 'PROXY')}; ${error.remedy}`
}

suite('a connection through a proxy', () => {
  test('is asked for by host and port, and then is the connection to the far end', async () => {
    await using proxied = await startProxy('HTTP/1.1 200 OK\r\nVia: a\r\n\r\nwelcome')
    const socket = await connectThroughProxy(proxied.proxy, target, never)
    assert.equal(String((await once(socket, 'data'))[0]), 'welcome')
    assert.deepEqual(proxied.requests, ['CONNECT mesh.example.org:443 HTTP/1.1\r\nHost: mesh.example.org:443\r\n\r\n'])
    socket.destroy()
  })

  test('names IPv6 targets in brackets', async () => {
    await using proxied = await startProxy('HTTP/1.0 200 \r\n\r\n')
    const socket = await connectThroughProxy(proxied.proxy, { host: '2001:db8::1', port: 20004 }, never)
    assert.match(proxied.requests[0] ?? '', /^CONNECT \[2001:db8::1\]:20004 HTTP/)
    socket.destroy()
  })

  test('shows user and password, with special characters as they are meant', async () => {
    await using proxied = await startProxy('HTTP/1.1 200 OK\r\n\r\n', 'site:p%40ss@')
    const socket = await connectThroughProxy(proxied.proxy, target, never)
    const expected = `Proxy-Authorization: Basic ${Buffer.from('site:p@ss').toString('base64')}\r\n`
    assert.ok(proxied.requests[0]?.includes(expected))
    socket.destroy()
  })

  test('that needs credentials says so, and where to write them', async () => {
    await using proxied = await startProxy('HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n')
    assert.match(await refusal(proxied.proxy), /^the proxy PROXY asks for a user and a password \(407\); write them in/)
  })

  test('with wrong credentials says so without showing them', async () => {
    await using proxied = await startProxy('HTTP/1.1 407 No\r\n\r\n', 'site:secret@')
    const text = await refusal(proxied.proxy)
    assert.match(text, /^the proxy PROXY does not accept our user and password \(407\); correct them/)
    assert.doesNotMatch(text, /secret/)
  })

  test('with a scheme that we do not speak names it', async () => {
    await using proxied = await startProxy(
      'HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n',
      'site:secret@',
    )
    assert.match(await refusal(proxied.proxy), /^the proxy PROXY asks for NTLM or Negotiate credentials \(407\);/)
  })

  test('to a port that is not allowed says what to allow', async () => {
    await using proxied = await startProxy('HTTP/1.1 403 Forbidden\r\n\r\n')
    const expected = /^the proxy PROXY refuses to connect to mesh\.example\.org:443 \(403 Forbidden\); let .* 443 too/
    assert.match(await refusal(proxied.proxy), expected)
  })

  test('that the proxy cannot make is a matter of the far end', async () => {
    await using proxied = await startProxy('HTTP/1.1 502 Bad Gateway\r\n\r\n')
    assert.match(
      await refusal(proxied.proxy),
      /^the proxy PROXY cannot reach mesh\.example\.org:443 \(502 Bad Gateway\);/,
    )
  })

  test('fails when no proxy listens', async () => {
    const { proxy, ...proxied } = await startProxy('')
    await proxied[Symbol.asyncDispose]()
    assert.match(
      await refusal(proxy),
      /^cannot reach the proxy PROXY: connect ECONNREFUSED .*; check edgeTunnel\.proxy/,
    )
  })

  test('fails when something else listens', async () => {
    await using other = await startProxy('SSH-2.0-OpenSSH\r\n\r\n')
    assert.match(await refusal(other.proxy), /^what answers at PROXY is no HTTP proxy;/)
  })

  test('fails when what answers never comes to an end', async () => {
    await using other = await startProxy('x'.repeat(20_000))
    assert.match(await refusal(other.proxy), /^what answers is no HTTP proxy;/)
  })

  test('fails when the proxy hangs up', async () => {
    await using listener = await startTcpListener({
      host: '127.0.0.1',
      port: 0,
      onConnection: (socket) => socket.end(),
    })
    assert.match(
      await refusal(parseHttpProxy(`http://127.0.0.1:${listener.port}`)),
      /^the proxy closed the connection;/,
    )
  })

  test('that takes too long names the proxy', async () => {
    await using proxied = await startProxy(undefined)
    const limit = AbortSignal.timeout(20)
    await assert.rejects(connectThroughProxy(proxied.proxy, target, limit), {
      code: 'EDGEMESH_PROXY',
      message: `no answer from the proxy ${proxied.proxy.text}`,
    })
  })

  test('is given up with the reason of the signal', async () => {
    await using proxied = await startProxy(undefined)
    const stop = new AbortController()
    const connecting = connectThroughProxy(proxied.proxy, target, stop.signal)
    stop.abort(new Error('stopping'))
    await assert.rejects(connecting, { message: 'stopping' })
  })
})

suite('the address of a proxy', () => {
  test('has a host, a port, and credentials that its name does not show', () => {
    assert.deepEqual(parseHttpProxy('http://site:secret@[2001:db8::1]:3128'), {
      host: '2001:db8::1',
      port: 3128,
      text: '[2001:db8::1]:3128',
      authorization: `Basic ${Buffer.from('site:secret').toString('base64')}`,
    })
    assert.deepEqual(parseHttpProxy('http://proxy/'), { host: 'proxy', port: 80, text: 'proxy:80' })
  })

  for (const text of ['', 'proxy:3128', 'https://proxy:3128', 'socks5://proxy:1080', 'http://proxy/path', 'http://']) {
    test(`is not ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseHttpProxy(text), ProxyAddressError)
    })
  }

  test('is not repeated when it is wrong', () => {
    assert.throws(
      () => parseHttpProxy('ftp://site:secret@proxy:1'),
      ({ message }: Error) => !message.includes('secret'),
    )
  })
})

suite('the environment', () => {
  const textOf = (env: Record<string, string>, { host, port } = target) => environmentProxyOf(env, { host, port })?.text

  test('names no proxy, or one for everything', () => {
    assert.equal(textOf({}), undefined)
    assert.equal(textOf({ HTTPS_PROXY: '' }), undefined)
    assert.equal(textOf({ HTTPS_PROXY: 'http://proxy:3128' }), 'proxy:3128')
    assert.equal(textOf({ HTTPS_PROXY: 'http://proxy:3128', https_proxy: 'other:8080' }), 'other:8080')
  })

  const excluding = (noProxy: string, host: string, port = 20004) =>
    textOf({ HTTPS_PROXY: 'http://proxy:3128', NO_PROXY: noProxy }, { host, port }) === undefined

  for (const [noProxy, host] of [
    ['*', 'mesh.example.org'],
    ['example.org', 'mesh.example.org'],
    ['.example.org', 'mesh.example.org'],
    ['*.Example.org', 'mesh.example.org'],
    ['other, mesh.example.org', 'MESH.example.org'],
    ['mesh.example.org:20004', 'mesh.example.org'],
    ['192.168.0.0/16', '192.168.7.1'],
    ['192.168.7.1', '192.168.7.1'],
    ['[2001:db8::1]', '2001:db8::1'],
  ] as const) {
    test(`excludes ${host} by ${noProxy}`, () => assert.ok(excluding(noProxy, host)))
  }

  for (const [noProxy, host] of [
    ['', 'mesh.example.org'],
    ['ample.org', 'mesh.example.org'],
    ['mesh.example.org:443', 'mesh.example.org'],
    ['192.168.0.0/16', '10.0.0.1'],
    ['192.168.0.0/16', 'mesh.example.org'],
    ['2001:db8::1', '2001:db8::2'],
  ] as const) {
    test(`does not exclude ${host} by ${JSON.stringify(noProxy)}`, () => assert.ok(!excluding(noProxy, host)))
  }
})
