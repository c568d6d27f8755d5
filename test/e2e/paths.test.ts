/**
 * Every path a connection can take, with the real executable and real clients.
 *
 *                    wan
 *     ┌────────┬──────┴───────┬────────────────────┐
 *   relay   cloud-1        router-a             router-b        NATs; b gives each connection a random port
 *   server  agent       ┌─────┴─────┐              │
 *                    edge-a1     edge-a2        edge-b1         agents
 *
 * Each node has the pods web-NODE (servers behind the Service of that name) and client-NODE.
 */
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { type Host, type Lab, runHalfCloseClient, sha256OfTestBytes, testBytes } from '../lab/index.ts'
import { createSite, eventually, get, paths, ports, resolve, startMesh } from './support/site.ts'

let lab: Lab
before(async () => {
  lab = await createSite()
  await startMesh(lab)
  await eventually(15_000, async () => {
    for (const { from, to } of paths) await get(lab.node(from), `web-${to}`, '/', 5_000)
  })
})
after(() => lab?.[Symbol.asyncDispose]())

const clients: readonly { kind: string; of: (node: string) => Host }[] = [
  { kind: 'a host process', of: (node) => lab.node(node) },
  { kind: 'a pod', of: (node) => lab.pod(`client-${node}`) },
]

for (const path of paths) {
  for (const client of clients) {
    describe(`${path.name}, from ${client.kind}`, () => {
      const service = `web-${path.to}`

      test('HTTP reaches the Service', async () => {
        assert.equal(await get(client.of(path.from), service), service)
      })

      test('a client that shuts down its side first gets the whole answer', async () => {
        const sendBytes = 300_000
        const host = client.of(path.from)
        const address = await resolve(host, service)
        const report = await runHalfCloseClient(host, { address, port: ports['half-close'], sendBytes })
        assert.equal(report.error, undefined)
        assert.equal(report.server?.bytes, sendBytes)
        assert.equal(report.server?.sha256, sha256OfTestBytes(sendBytes))
        assert.equal(report.answer.bytes, 1024 * 1024)
        assert.equal(report.answer.sha256, sha256OfTestBytes(1024 * 1024))
      })

      test('a reset by the server is a reset at the client', async () => {
        const host = client.of(path.from)
        const url = `http://${await resolve(host, service)}:${ports.reset}/`
        const { code, stderr } = await host.exec(['curl', '-sS', '--max-time', '5', url])
        assert.equal(code, 56, stderr)
        assert.match(stderr, /reset by peer/)
      })
    })
  }
}

describe('pods use names as they do in a cluster', () => {
  test('the short name resolves through the search list', async () => {
    const { stdout, stderr } = await lab.pod('client-edge-a1').exec(['curl', '-sS', 'http://web-edge-b1/'])
    assert.equal(stdout.trim(), 'web-edge-b1', stderr)
  })

  test('names outside the cluster are answered by the resolvers of the node', async () => {
    const { stdout } = await lab.pod('client-edge-a1').exec(['dig', '+short', 'upstream.example'])
    assert.equal(stdout.trim(), '198.51.100.7')
  })
})

describe('64 MB across LANs', () => {
  const size = 64 * 1024 * 1024

  test('downwards with equal sha256', async () => {
    const host = lab.pod('client-edge-a1')
    const download = ['curl', '-sS', '-o', 'download', `http://web-edge-b1/bytes?n=${size}`]
    const { code, stderr } = await host.exec(download, { timeoutMs: 60_000 })
    assert.equal(code, 0, stderr)
    const { stdout } = await host.exec(['sha256sum', 'download'])
    assert.equal(stdout.split(' ')[0], sha256OfTestBytes(size))
  })

  test('upwards with equal sha256', async () => {
    const host = lab.pod('client-edge-a1')
    const upload = ['curl', '-sS', '--data-binary', '@-', '-H', 'Expect:', 'http://web-edge-b1/sha256']
    const { stdout, stderr } = await host.exec(upload, {
      input: Buffer.concat([...testBytes(size)]),
      timeoutMs: 60_000,
    })
    assert.equal(stdout.trim(), sha256OfTestBytes(size), stderr)
  })
})
