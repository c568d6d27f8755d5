/**
 * Dialling one endpoint more often than the node has ports for it: a closed connection keeps its port for a minute. So
 * that seconds show what would take a minute otherwise, the node has a few hundred ports instead of 28,000.
 *
 *     wan ── router-a ── edge-a1 (dials, by itself and as agent) ── pods web (echo), client
 */
import assert from 'node:assert/strict'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { after, before, test } from 'node:test'
import { createLab, type Host, type Lab } from '../lab/index.ts'
import { startLimitedService } from './support/dialled-service.ts'

const script = join(import.meta.dirname, 'support', 'dial-often.ts')
const dialClients = resolve(import.meta.dirname, '../bench/load/dial-clients.ts')

let lab: Lab
let node: Host
let service: Awaited<ReturnType<typeof startLimitedService>>
before(async () => {
  lab = await createLab({
    lans: { a: { nodes: { 'edge-a1': { podBridge: '10.244.0.0/24', pods: ['web', 'client'] } } } },
  })
  node = lab.node('edge-a1')
  service = await startLimitedService(lab)
  await run(['sysctl', '-w', 'net.ipv4.ip_local_port_range=40000 40399'])
  // More addresses that packets can come from, as real nodes have them.
  for (const address of ['169.254.96.16', '10.99.0.1', '10.99.0.2', '10.99.0.3']) {
    await run(['ip', 'address', 'add', `${address}/32`, 'dev', 'cni0'])
  }
})
after(() => lab?.[Symbol.asyncDispose]())

async function run(argv: readonly string[], timeoutMs = 10_000): Promise<string> {
  const { code, stdout, stderr } = await node.exec(argv, { timeoutMs })
  assert.equal(code, 0, stderr)
  return stdout
}

test('an endpoint on this node is dialled three times as often as one address has ports for', async () => {
  const { address } = lab.pod('web')
  const dial = (count: number) =>
    run([process.execPath, script, address, String(service.port), '400', String(count)], 60_000)
  assert.match(await dial(1_200), /^done 1200 failed 0/)
  const waiting = Number(await run(['sh', '-c', 'ss -Htan state time-wait | wc -l']))
  assert.ok(waiting > 400, `only ${waiting} connections wait, so no port was ever missing`)
})

test('an agent carries more connections to it than one address has ports for', async () => {
  const argv = [process.execPath, dialClients, service.clusterIP, String(service.port), '300', '4']
  const { code, stdout, stderr } = await lab.pod('client').exec(argv, { timeoutMs: 60_000 })
  assert.equal(code, 0, stderr)
  assert.match(stdout, /^done 1200 failed 0 /)
})
