import assert from 'node:assert/strict'
import { once } from 'node:events'
import { suite, test } from 'node:test'
import { createMemoryStreamPair, DialError, type Dialer } from '../../net/index.ts'
import { Destinations } from '../backends/destinations.ts'
import { sampleCatalog, sampleService, sampleSlice, sampleVirtualService } from '../samples.ts'
import { carryStream } from './carry-stream.ts'

const ring = { partitionCount: 100, replicationFactor: 10, load: 1.25 }

function carry(dial: Dialer['dial'], host = 'web', addresses: readonly string[] = ['10.0.0.1']) {
  const catalog = sampleCatalog([sampleService('web')], [sampleSlice('web', ...addresses)])
  const current = () => catalog.current
  const destinations = new Destinations({ current, nodeName: 'edge', clusterDomain: 'cluster.local', ring })
  const headers = { request: { set: {}, add: {}, remove: [] }, response: { set: {}, add: {}, remove: [] } }
  const route = {
    id: 'shop/web/tcp#0',
    virtualService: sampleVirtualService(),
    rule: { destinations: host === '' ? [] : [{ host, port: 80, weight: 1, headers }] },
  }
  const [near, client] = createMemoryStreamPair()
  for (const stream of [near, client]) stream.on('error', () => {})
  const surroundings = { destinations, dialer: { dial }, random: () => 0.5, dialTimeoutMs: 200 }
  return { client, end: carryStream(near, '192.0.2.1', route, surroundings) }
}

const refused = async () => {
  throw new DialError('refused', 'connect ECONNREFUSED')
}

suite('a connection that is carried', () => {
  test('reaches a backend, in both directions, until both sides end', async () => {
    const { client, end } = carry(async () => {
      const [near, far] = createMemoryStreamPair()
      far.on('data', (chunk: Buffer) => far.end(`echo ${chunk}`))
      return near
    })
    client.end('hello')
    const [answer] = await once(client, 'data')
    assert.equal(String(answer), 'echo hello')
    assert.deepEqual(await end, { backend: 'edge/10.0.0.1:8080', bytesIn: 5, bytesOut: 10 })
  })

  test('goes to the next backend when one refuses', async () => {
    const dialled = new Set<string>()
    const { client, end } = carry(
      async ({ address }) => {
        if (dialled.add(address).size === 1) return await refused()
        const [near, far] = createMemoryStreamPair()
        far.end('hi')
        far.resume()
        return near
      },
      'web',
      ['10.0.0.1', '10.0.0.2'],
    )
    client.end()
    client.resume()
    assert.equal((await end).bytesOut, 2)
    assert.equal(dialled.size, 2)
  })

  const failures: readonly (readonly [string, string, readonly string[], RegExp])[] = [
    ['no backend answers', 'web', ['10.0.0.1'], /ECONNREFUSED/],
    ['nobody is ready', 'web', [], /./],
    ['the Service is missing', 'nowhere', [], /there is no Service shop\/nowhere/],
    ['the rule leads nowhere', '', [], /the rule has no destination/],
  ]
  for (const [name, host, addresses, problem] of failures) {
    test(`is cut, with the reason, when ${name}`, async () => {
      const { client, end } = carry(refused, host, addresses)
      const closed = new Promise((resolve) => client.on('close', resolve))
      assert.match((await end).problem ?? '', problem)
      await closed
    })
  }

  test('dials no more once the client is gone', async () => {
    let signalled: AbortSignal | undefined
    const { client, end } = carry((_target, signal) => {
      signalled = signal
      return new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    })
    client.destroy()
    assert.match((await end).problem ?? '', /the client went away|no answer/)
    assert.equal(signalled?.aborted, true)
  })
})
