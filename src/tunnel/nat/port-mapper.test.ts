import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../observability/index.ts'
import type { Router } from './ask-router.ts'
import type { MappingRequest } from './port-control.ts'
import { PortMapper } from './port-mapper.ts'

/** A router that gives port 41000, or refuses; a server that finds it open, or not; and time that passes when told. */
function createScene({ lifetimeSeconds = 3600, isOpen = true, isWilling = true, hasRouter = true } = {}) {
  const asked: MappingRequest[] = []
  const scene = { isOpen, isWilling, situation: 'here' }
  const router: Router = {
    protocol: 'PCP',
    async ask(request) {
      asked.push(request)
      if (!scene.isWilling) throw new Error('it does not want to')
      return { externalPort: 41_000, lifetimeSeconds }
    },
  }
  let passedMs = 0
  let untilMs = 0
  let resting: (() => void) | undefined
  const stop = new AbortController()
  const mapper = new PortMapper({
    routers: () => (hasRouter ? [router] : []),
    situation: () => scene.situation,
    port: 20_006,
    async confirm(port) {
      if (!scene.isOpen) throw new Error('nobody comes in')
      return { address: '203.0.113.9', port }
    },
    logger: silentLogger,
    random: () => 1,
    async pause(ms) {
      passedMs += ms
      if (passedMs <= untilMs || stop.signal.aborted) return
      await new Promise<void>((resolve) => {
        resting = resolve
      })
    },
  })
  const settle = async () => {
    for (let turn = 0; turn < 1_000_000 && resting === undefined; turn++) await Promise.resolve()
  }
  const running = mapper.run(stop.signal)
  return {
    scene,
    mapper,
    asked,
    settle,
    async pass(seconds: number) {
      await settle()
      untilMs += seconds * 1000
      resting?.()
      resting = undefined
      await settle()
    },
    async stop() {
      stop.abort()
      resting?.()
      await running
    },
  }
}

test('a port is told to others once a server has come in through it, and taken back at the end', async () => {
  const { mapper, asked, settle, stop } = createScene()
  assert.equal(mapper.mapped, undefined)
  await settle()
  assert.deepEqual(mapper.mapped, { address: '203.0.113.9', port: 41_000 })
  assert.deepEqual(mapper.status(), { address: '203.0.113.9:41000' })
  assert.deepEqual(asked, [{ internalPort: 20_006, externalPort: 20_006, lifetimeSeconds: 3600 }])
  await stop()
  assert.equal(mapper.mapped, undefined)
  assert.deepEqual(asked.at(-1), { internalPort: 20_006, externalPort: 41_000, lifetimeSeconds: 0 })
})

test('it is renewed after half of its lifetime, with the port that was given before', async () => {
  const { asked, pass, stop } = createScene()
  await pass(1700)
  assert.equal(asked.length, 1)
  await pass(200)
  assert.deepEqual(asked.slice(1), [{ internalPort: 20_006, externalPort: 41_000, lifetimeSeconds: 3600 }])
  await stop()
})

test('a router that grants no time is not asked more than once a minute', async () => {
  const { asked, pass, stop } = createScene({ lifetimeSeconds: 0 })
  await pass(590)
  assert.ok(asked.length <= 10, `${asked.length} times`)
  await stop()
})

test('a port that does not let others in is not told to anybody', async () => {
  const { mapper, settle, stop } = createScene({ isOpen: false })
  await settle()
  assert.equal(mapper.mapped, undefined)
  assert.match(mapper.status().lastError ?? '', /nobody comes in/)
  await stop()
})

test('a port that is closed again is not told any more', async () => {
  const { scene, mapper, pass, stop } = createScene()
  await pass(1)
  scene.isOpen = false
  await pass(1900)
  assert.equal(mapper.mapped, undefined)
  await stop()
})

test('a router that refuses is asked ever less often, and at once in another network', async () => {
  const { scene, mapper, asked, pass, stop } = createScene({ isWilling: false })
  await pass(24 * 3600)
  assert.ok(asked.length >= 10 && asked.length <= 25, `${asked.length} times a day`)
  assert.match(mapper.status().lastError ?? '', /no router opens a port: it does not want to/)
  const before = asked.length
  Object.assign(scene, { situation: 'elsewhere', isWilling: true })
  await pass(3)
  assert.equal(asked.length, before + 1)
  assert.equal(mapper.mapped?.port, 41_000)
  await stop()
})

test('without a router nobody is asked', async () => {
  const { asked, mapper, settle, stop } = createScene({ hasRouter: false })
  await settle()
  assert.match(mapper.status().lastError ?? '', /no router is to be asked/)
  await stop()
  assert.deepEqual(asked, [])
})
