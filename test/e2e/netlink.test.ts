/**
 * The traps of the netlink library, sprung: exceptions in its callbacks, and storms of changes while the process cannot
 * read. The node's own namespace is the patient:
 *
 *     wan ── router-a ── edge-a1 (agent, or a process that only looks at the network) ── pod web-edge-a1
 */
import assert from 'node:assert/strict'
import { join } from 'node:path'
import process from 'node:process'
import { after, afterEach, before, describe, test } from 'node:test'
import type { Host, Lab, LabProcess } from '../lab/index.ts'
import { bodyFrom, createSite, eventually, statusOf } from './support/site.ts'

let lab: Lab
let edge: Host
before(async () => {
  lab = await createSite({ lans: { a: { nodes: { 'edge-a1': { pods: ['web-edge-a1'] } } } } }, ['edge-a1'])
  edge = lab.node('edge-a1')
  await batch(edge, ['link add storm0 type veth peer name storm1', 'link set storm0 up', 'link set storm1 up'])
})
after(() => lab?.[Symbol.asyncDispose]())
afterEach(() => batch(edge, ['addr flush dev storm0', 'route flush dev storm1']))

/** Far more than fills 8 MB of receive buffer with news. */
const stormSize = 10_000

async function batch(host: Host, commands: readonly string[]): Promise<void> {
  const { code, stderr } = await host.exec(['ip', '-batch', '-'], { input: commands.join('\n'), timeoutMs: 60_000 })
  assert.equal(code, 0, stderr)
}

/** Adds and removes routes and addresses; what it leaves is 100 addresses on storm0. */
async function storm(): Promise<void> {
  const addressOf = (at: number) => `10.66.${Math.floor(at / 250)}.${at % 250}`
  const routes = Array.from({ length: stormSize }, (_, at) => `${addressOf(at)} dev storm1`)
  const addresses = Array.from({ length: 1_000 }, (_, at) => `10.77.${Math.floor(at / 250)}.${at % 250}/32 dev storm0`)
  await batch(edge, [
    ...routes.map((route) => `route add ${route}`),
    ...routes.map((route) => `route del ${route}`),
    ...addresses.map((address) => `addr add ${address}`),
    ...addresses.slice(100).map((address) => `addr del ${address}`),
  ])
}

async function startWatcher(...actions: readonly string[]): Promise<LabProcess> {
  const script = join(import.meta.dirname, 'support', 'network-watcher.ts')
  const watcher = edge.spawn([process.execPath, script, ...actions])
  await watcher.waitForLine(/^ready$/)
  return watcher
}

describe('exceptions', () => {
  test('one in a listener is logged, and the listener still hears of later changes', async () => {
    await using watcher = await startWatcher('watch, throwing', 'watch')
    await batch(edge, ['addr add 10.66.0.1/32 dev storm0'])
    const seen = await watcher.waitForLine(/^sees \d+ links, \d+ addresses/)
    const count = Number(/(\d+) addresses/.exec(seen)?.[1])
    await batch(edge, ['addr add 10.66.0.2/32 dev storm0'])
    await watcher.waitForLine(new RegExp(`, ${count + 1} addresses`))
    const complaints = watcher.output().match(/thrown by the listener.*a change of the network could not be handled/g)
    assert.equal(complaints?.length, 2, watcher.output())
  })

  test('one inside the native callback fails the request, and the next one gets a new socket', async () => {
    await using watcher = await startWatcher('throw in a callback')
    await watcher.waitForLine(/^hears$/)
    await batch(edge, ['link set storm1 down', 'link set storm1 up'])
    await watcher.waitForLine(/^failed: Cannot hear news: thrown in the native callback$/)
    await watcher.waitForLine(/^the next socket lists [1-9]\d* links$/)
    assert.equal(watcher.exit, undefined)
  })

  test('one right after an answer is an ordinary uncaught exception', async () => {
    await using watcher = await startWatcher('throw after an answer')
    await watcher.waitForLine(/^uncaught: thrown after an answer$/)
    assert.equal(watcher.exit, undefined)
  })
})

describe('a storm of changes', () => {
  const settled = /^sees \d+ links, 1\d\d addresses/

  test('while the process is stopped, in the middle of a request, is survived and seen as a whole', async () => {
    await using watcher = await startWatcher('watch', 'read on and on')
    await watcher.waitForLine(/^read 100$/)
    watcher.kill('SIGSTOP')
    await storm()
    watcher.kill('SIGCONT')
    await watcher.waitForLine(settled, 20_000)
    assert.equal(watcher.exit, undefined)
  })

  test('while the process reads is survived and seen as a whole', async () => {
    await using watcher = await startWatcher('watch', 'read on and on')
    await storm()
    await watcher.waitForLine(settled, 20_000)
    assert.equal(watcher.exit, undefined)
    assert.doesNotMatch(watcher.output(), /cannot look at the network/)
  })

  test('while the agent is stopped leaves it serving, and it acts on what changed', async () => {
    await using agent = await lab.startAgent('edge-a1')
    await eventually(5_000, async () => assert.equal(await bodyFrom(edge, 'http://10.96.0.1/'), 'web-edge-a1'))
    const { pid } = await statusOf(edge)
    const gateway = (await edge.exec(['ip', '-4', 'route', 'show', 'default'])).stdout.trim()
    assert.match(gateway, /^default via /)
    agent.kill('SIGSTOP')
    await storm()
    await batch(edge, ['route del default'])
    agent.kill('SIGCONT')
    // Without a default route a process of the node reaches a ClusterIP only by a route that the agent makes.
    await eventually(15_000, async () => assert.equal(await bodyFrom(edge, 'http://10.96.0.1/'), 'web-edge-a1'))
    await batch(edge, [`route add ${gateway}`])
    await eventually(15_000, async () => {
      const { stdout } = await edge.exec(['ip', '-4', 'route', 'show', '10.96.0.1'])
      assert.equal(stdout, '')
    })
    assert.equal((await statusOf(edge)).pid, pid)
    assert.equal(agent.exit, undefined)
  })
})
