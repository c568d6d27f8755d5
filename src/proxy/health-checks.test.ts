import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AddressInUseError, type ControlHandler } from '../net/index.ts'
import { silentLogger } from '../observability/index.ts'
import { createHealthChecks } from './health-checks.ts'

const check = (port: number, localEndpoints: number) => ({ namespace: 'shop', name: 'web', port, localEndpoints })

function setUp(taken: readonly number[] = []) {
  const handlers = new Map<number, ControlHandler>()
  const messages: string[] = []
  const logger = { ...silentLogger, info: (_fields: unknown, message: string) => void messages.push(message) }
  const checks = createHealthChecks(logger, async ({ port, handler }) => {
    if (taken.includes(port)) throw new AddressInUseError(`tcp 0.0.0.0:${port}`, port)
    handlers.set(port, handler)
    return { port, [Symbol.asyncDispose]: async () => void handlers.delete(port) }
  })
  return { checks, handlers, messages }
}

const ask = async (handler: ControlHandler | undefined) => await handler?.({ method: 'GET', url: '/healthz' })

test('a node with endpoints answers 200, one without 503, and both say how many there are', async () => {
  const { checks, handlers } = setUp()
  checks.set([check(32000, 2)])
  await until(() => handlers.has(32000))
  const handler = handlers.get(32000)
  const answer = await ask(handler)
  assert.equal(answer?.status, 200)
  assert.deepEqual(JSON.parse(answer.body), { service: { namespace: 'shop', name: 'web' }, localEndpoints: 2 })
  checks.set([check(32000, 0)])
  assert.equal((await ask(handler))?.status, 503)
  await checks[Symbol.asyncDispose]()
})

test('ports close when their Service goes, and all of them at the end', async () => {
  const { checks, handlers } = setUp()
  checks.set([check(32000, 1), check(32001, 1)])
  await until(() => handlers.size === 2)
  checks.set([check(32001, 1)])
  await until(() => handlers.size === 1)
  await checks[Symbol.asyncDispose]()
  assert.equal(handlers.size, 0)
})

test('a port that somebody else has is left to them, once, and the others are served', async () => {
  const { checks, handlers, messages } = setUp([32000])
  checks.set([check(32000, 1), check(32001, 1)])
  await until(() => handlers.size === 1)
  checks.set([check(32000, 0), check(32001, 0)])
  await checks[Symbol.asyncDispose]()
  assert.equal(messages.length, 1)
})

test('a port that was taken is served once it is free, and one that cannot be closed keeps no other from opening', async () => {
  const taken = [32000]
  const { checks, handlers } = setUp(taken)
  checks.set([check(32000, 1), check(32001, 1)])
  await until(() => handlers.size === 1)
  taken.pop()
  handlers.delete = () => {
    throw new Error('not closed')
  }
  checks.set([check(32000, 1)])
  checks.set([check(32000, 1), check(32002, 1)])
  await until(() => handlers.has(32000) && handlers.has(32002))
})

async function until(check: () => boolean): Promise<void> {
  for (let turn = 0; turn < 100 && !check(); turn++) await Promise.resolve()
  assert.ok(check())
}
