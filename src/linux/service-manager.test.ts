import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Logger, silentLogger } from '../observability/index.ts'
import { createServiceManager } from './service-manager.ts'

function setUp(env: Record<string, string>, errno = 0) {
  const sent: string[] = []
  const native = {
    sdNotify(socket: string, state: string) {
      sent.push(`${socket} ${state}`)
      return errno
    },
  }
  return { sent, manager: createServiceManager({ env, native, pid: 42, logger: silentLogger }) }
}

test('the service manager hears when all is ready and when it ends', () => {
  const { sent, manager } = setUp({ NOTIFY_SOCKET: '/run/notify' })
  manager.ready()
  manager.stopping()
  manager[Symbol.dispose]()
  assert.deepEqual(sent, ['/run/notify READY=1', '/run/notify STOPPING=1'])
})

test('signs of life come twice in the time of the watchdog, from ready to the end', (context) => {
  context.mock.timers.enable({ apis: ['setInterval'] })
  const { sent, manager } = setUp({ NOTIFY_SOCKET: '@notify', WATCHDOG_USEC: '60000000', WATCHDOG_PID: '42' })
  context.mock.timers.tick(60_000)
  assert.deepEqual(sent, [])
  manager.ready()
  context.mock.timers.tick(60_000)
  assert.deepEqual(sent, ['@notify READY=1', '@notify WATCHDOG=1', '@notify WATCHDOG=1'])
  manager[Symbol.dispose]()
  context.mock.timers.tick(60_000)
  assert.equal(sent.length, 3)
})

test('a watchdog for another process is not ours', (context) => {
  context.mock.timers.enable({ apis: ['setInterval'] })
  const { sent, manager } = setUp({ NOTIFY_SOCKET: '@notify', WATCHDOG_USEC: '60000000', WATCHDOG_PID: '43' })
  manager.ready()
  context.mock.timers.tick(60_000)
  assert.deepEqual(sent, ['@notify READY=1'])
})

test('nobody is told where nobody asks', () => {
  const { sent, manager } = setUp({})
  manager.ready()
  manager.stopping()
  assert.deepEqual(sent, [])
})

test('a service manager that cannot be told is a warning with its remedy, not an error', () => {
  const lines: string[] = []
  const logger: Logger = { ...silentLogger, warn: (fields) => void lines.push(`${fields.reason}; ${fields.remedy}`) }
  const env = { NOTIFY_SOCKET: '/run/notify' }
  createServiceManager({ env, native: undefined, pid: 42, logger }).ready()
  createServiceManager({ env, native: { sdNotify: () => 111 }, pid: 42, logger }).ready()
  assert.match(lines[0] ?? '', /the native addon is not loaded.*EDGEMESH_ADDON_DIR/)
  assert.match(lines[1] ?? '', /error 111/)
})
