/**
 * More ServicePorts with endpoints elsewhere than the synthetic range has addresses for, with its usual size:
 *
 *     wan ── cloud-1 (16 ports, each says its number)
 *      └──── edge-a1 (10,000 Services, each leads to one of them through the userspace proxy)
 */
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { after, before, test } from 'node:test'
import { createLab, type Host, type Lab, type LabProcess } from '../lab/index.ts'
import type { ProxyScene } from './service-proxy-process.ts'
import { backendPortAt, clusterIPAt } from './support/many-ports.ts'

const count = 10_000
const first = 8_000
const ports = 16
const script = (name: string) => resolve(import.meta.dirname, name)

let lab: Lab
let node: Host
let proxy: LabProcess

before(async () => {
  lab = await createLab({ cloud: ['cloud-1', 'edge-a1'] })
  node = lab.node('edge-a1')
  const cloud = lab.node('cloud-1')
  const server = cloud.spawn([process.execPath, script('support/many-ports.ts'), 'serve', `${first}`, `${ports}`])
  await server.waitForLine(/^ready/)
  const services = Array.from({ length: count }, (_, at) => ({
    name: `service-${at}`,
    clusterIP: clusterIPAt(at),
    port: 80,
    backends: [{ node: 'cloud-1', address: cloud.address, port: backendPortAt(at, first, ports) }],
  }))
  const scene: ProxyScene = { nodeName: 'edge-a1', services }
  await writeFile(join(node.dir, 'scene.json'), JSON.stringify(scene))
  proxy = node.spawn([process.execPath, script('service-proxy-process.ts'), join(node.dir, 'scene.json')])
  await proxy.waitForLine(/^ready/, 60_000)
})
after(() => lab?.[Symbol.asyncDispose]())

test('each of ten thousand ServicePorts leads to its own endpoint, with the usual range', {
  timeout: 300_000,
}, async () => {
  const asking = [process.execPath, script('support/many-ports.ts'), 'ask', `${count}`, `${first}`, `${ports}`]
  const { code, stdout, stderr } = await node.exec(asking, { timeoutMs: 240_000 })
  assert.equal(code, 0, stderr)
  assert.deepEqual(JSON.parse(stdout), { right: count, wrong: [] })
})

test('they share addresses at two ports, of which nobody outside reaches either', async () => {
  process.kill(proxy.pid, 'SIGUSR2')
  const line = await proxy.waitForLine(/^status /)
  const { listenPorts, problem, servicePorts } = JSON.parse(line.slice('status '.length))
  assert.deepEqual([servicePorts, listenPorts.length, problem], [count, 2, undefined])
  for (const port of listenPorts) {
    const { code } = await lab
      .node('cloud-1')
      .exec(['curl', '-sS', '--max-time', '1', `http://${node.address}:${port}/`])
    // Dropped: neither refused nor answered.
    assert.equal(code, 28, `port ${port}`)
  }
})
