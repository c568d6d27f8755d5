import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { createMetrics } from '../observability/index.ts'
import { createAccessLog } from './access-log.ts'
import { createGatewayMetrics } from './gateway-metrics.ts'
import type { Exchange } from './http/exchange.ts'
import { HeaderFields } from './http/header-fields.ts'
import type { RequestRecord } from './requests/request-handler.ts'

const client = { address: '192.0.2.1', port: 1, localAddress: '', localPort: 80, isTls: false, serverName: 'a.test' }
const exchange = {
  client,
  request: {
    version: '1.1',
    method: 'GET',
    scheme: 'http',
    authority: 'a.test',
    target: '/x?y',
    headers: HeaderFields.of({ 'user-agent': 'curl "x"\u2028' }),
  },
} as unknown as Exchange

function recordOf(fields: Partial<RequestRecord> = {}): RequestRecord {
  return {
    exchange,
    route: 'shop/web/#0',
    status: 200,
    bytesIn: 1,
    bytesOut: 2,
    tries: 1,
    durationMs: 1.23456,
    ...fields,
  }
}

suite('the access log', () => {
  test('has one JSON line for each request', () => {
    const lines: string[] = []
    const log = createAccessLog({ mode: 'on', sampleRatio: 0 }, (line) => lines.push(line), Math.random)
    log?.request(recordOf({ backend: 'edge/10.0.0.1:80' }))
    log?.stream(client, 'shop/web/tcp#0', { backend: undefined, bytesIn: 3, bytesOut: 4, problem: 'no backend' }, 5)
    assert.equal(lines.length, 2)
    const [request, stream] = lines.map((line) => JSON.parse(line))
    assert.ok(lines.every((line) => line.endsWith('\n') && line.indexOf('\n') === line.length - 1))
    const { time, ...fields } = request
    assert.ok(!Number.isNaN(Date.parse(time)))
    assert.deepEqual(fields, {
      kind: 'access',
      client: '192.0.2.1',
      method: 'GET',
      scheme: 'http',
      host: 'a.test',
      path: '/x?y',
      protocol: 'HTTP/1.1',
      status: 200,
      route: 'shop/web/#0',
      backend: 'edge/10.0.0.1:80',
      bytesIn: 1,
      bytesOut: 2,
      durationMs: 1.235,
      tries: 1,
      userAgent: 'curl "x"\u2028',
    })
    assert.deepEqual([stream.protocol, stream.route, stream.problem], ['TCP', 'shop/web/tcp#0', 'no backend'])
  })

  test('can be off, or have a share of the requests and every failure', () => {
    assert.equal(
      createAccessLog({ mode: 'off', sampleRatio: 1 }, () => {}, Math.random),
      undefined,
    )
    const statuses: number[] = []
    const draws = [0.5, 0.005]
    const write = (line: string) => statuses.push(JSON.parse(line).status)
    const log = createAccessLog({ mode: 'sampled', sampleRatio: 0.01 }, write, () => draws.shift() ?? 1)
    for (const status of [201, 202, 503]) log?.request(recordOf({ status }))
    assert.deepEqual(statuses, [202, 503])
  })
})

suite('metrics', () => {
  test('count requests by rule and class of status, and how long they took', async () => {
    const registry = createMetrics()
    const metrics = createGatewayMetrics(registry)
    metrics.request(recordOf({ durationMs: 3 }))
    metrics.request(recordOf({ status: 204, durationMs: 30_000 }))
    metrics.request(recordOf({ status: 404, route: '' }))
    metrics.stream('shop/web/tcp#0', { backend: 'x', bytesIn: 10, bytesOut: 20 })
    metrics.refused()
    const text = await registry.render()
    for (const line of [
      'edgemesh_gateway_requests_total{route="shop/web/#0",code="2xx"} 2',
      'edgemesh_gateway_requests_total{route="none",code="4xx"} 1',
      'edgemesh_gateway_request_duration_seconds_bucket{le="0.0025"} 1',
      'edgemesh_gateway_request_duration_seconds_bucket{le="0.005"} 2',
      'edgemesh_gateway_request_duration_seconds_bucket{le="10"} 2',
      'edgemesh_gateway_request_duration_seconds_bucket{le="+Inf"} 3',
      'edgemesh_gateway_request_duration_seconds_count 3',
      'edgemesh_gateway_bytes_total{direction="out"} 26',
      'edgemesh_gateway_streams_total{route="shop/web/tcp#0",result="carried"} 1',
      'edgemesh_gateway_refused_total 1',
    ]) {
      assert.ok(text.includes(line), `${line}\n${text}`)
    }
  })

  test('have no more routes than can be looked at', async () => {
    const registry = createMetrics()
    const metrics = createGatewayMetrics(registry)
    for (let index = 0; index < 1100; index++) metrics.request(recordOf({ route: `shop/web/#${index}` }))
    const text = await registry.render()
    assert.equal(text.match(/^edgemesh_gateway_requests_total\{/gm)?.length, 1001)
    assert.match(text, /\{route="other",code="2xx"\} 100/)
  })
})
