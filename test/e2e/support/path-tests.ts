/** What must hold on every path of the site, wherever agents have their objects from. */
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Host, type Lab, runHalfCloseClient, sha256OfTestBytes, testBytes } from '../../lab/index.ts'
import { get, paths, ports, resolve } from './site.ts'

/** Registers the tests; the lab is asked for when they run, and its mesh must work by then. */
export function registerPathTests(labOf: () => Lab): void {
  registerConnectionTests(labOf)
  registerNameTests(labOf)
  registerTransferTests(labOf)
}

function registerConnectionTests(labOf: () => Lab): void {
  const clients: readonly { kind: string; of: (node: string) => Host }[] = [
    { kind: 'a host process', of: (node) => labOf().node(node) },
    { kind: 'a pod', of: (node) => labOf().pod(`client-${node}`) },
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
}

function registerNameTests(labOf: () => Lab): void {
  describe('pods use names as they do in a cluster', () => {
    test('the short name resolves through the search list', async () => {
      const { stdout, stderr } = await labOf().pod('client-edge-a1').exec(['curl', '-sS', 'http://web-edge-b1/'])
      assert.equal(stdout.trim(), 'web-edge-b1', stderr)
    })

    test('names outside the cluster are answered by the resolvers of the node', async () => {
      const { stdout } = await labOf().pod('client-edge-a1').exec(['dig', '+short', 'upstream.example'])
      assert.equal(stdout.trim(), '198.51.100.7')
    })
  })
}

function registerTransferTests(labOf: () => Lab): void {
  describe('64 MB across LANs', () => {
    const size = 64 * 1024 * 1024

    test('downwards with equal sha256', async () => {
      const host = labOf().pod('client-edge-a1')
      const download = ['curl', '-sS', '-o', 'download', `http://web-edge-b1/bytes?n=${size}`]
      const { code, stderr } = await host.exec(download, { timeoutMs: 60_000 })
      assert.equal(code, 0, stderr)
      const { stdout } = await host.exec(['sha256sum', 'download'])
      assert.equal(stdout.split(' ')[0], sha256OfTestBytes(size))
    })

    test('upwards with equal sha256', async () => {
      const host = labOf().pod('client-edge-a1')
      const upload = ['curl', '-sS', '--data-binary', '@-', '-H', 'Expect:', 'http://web-edge-b1/sha256']
      const { stdout, stderr } = await host.exec(upload, {
        input: Buffer.concat([...testBytes(size)]),
        timeoutMs: 60_000,
      })
      assert.equal(stdout.trim(), sha256OfTestBytes(size), stderr)
    })
  })
}
