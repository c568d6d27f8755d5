import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { AlreadyRunningError, acquireInstanceLock } from './already-running.ts'
import { type ControlHandler, NotRunningError, requestControl, startControlServer } from './control-socket.ts'

const handler: ControlHandler = ({ url }) => {
  if (url === '/status') return { status: 200, contentType: 'application/json', body: '{"ready":true}' }
  if (url === '/broken') throw new Error('no status today')
  return undefined
}

async function temporaryFolder() {
  const path = await mkdtemp(join(tmpdir(), 'edgemesh-control-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) }
}

/** Runs a script in another process until it prints a line. */
async function startProcess(script: string) {
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] })
  await once(child.stdout, 'data')
  return {
    async kill() {
      child.kill('SIGKILL')
      await once(child, 'close')
    },
  }
}

test('a request is answered over the socket, which only its owner may use', async () => {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'run', 'control.sock')
  await using _server = await startControlServer({ path, handler })
  assert.deepEqual(await requestControl(path, { method: 'GET', url: '/status' }), {
    status: 200,
    contentType: 'application/json',
    body: '{"ready":true}',
  })
  assert.equal((await stat(path)).mode & 0o777, 0o600)
  assert.equal((await stat(join(folder.path, 'run'))).mode & 0o777, 0o755)
})

test('unknown pages and failing handlers are answers, too', async () => {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'control.sock')
  await using _server = await startControlServer({ path, handler })
  assert.equal((await requestControl(path, { method: 'GET', url: '/nothing' })).status, 404)
  const broken = await requestControl(path, { method: 'GET', url: '/broken' })
  assert.deepEqual([broken.status, broken.body], [500, 'no status today\n'])
})

test('a second server on the socket of a running one is refused, and the first goes on', async () => {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'control.sock')
  await using _server = await startControlServer({ path, handler })
  await assert.rejects(startControlServer({ path, handler }), (error) => {
    assert.ok(error instanceof AlreadyRunningError)
    assert.ok(error.message.includes(path))
    return true
  })
  assert.equal((await requestControl(path, { method: 'GET', url: '/status' })).status, 200)
})

test('disposal removes the socket, so that a request says that nothing runs', async () => {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'control.sock')
  const server = await startControlServer({ path, handler })
  await server[Symbol.asyncDispose]()
  await assert.rejects(stat(path), { code: 'ENOENT' })
  await assert.rejects(requestControl(path, { method: 'GET', url: '/status' }), NotRunningError)
})

test('the socket and the lock of a killed process are taken over', async () => {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'control.sock')
  const lock = `test-${process.pid}`
  const module = (name: string) => JSON.stringify(new URL(name, import.meta.url).href)
  const other = await startProcess(`
    const { startControlServer } = await import(${module('./control-socket.ts')})
    const { acquireInstanceLock } = await import(${module('./already-running.ts')})
    await acquireInstanceLock(${JSON.stringify(lock)})
    await startControlServer({ path: ${JSON.stringify(path)}, handler: () => undefined })
    console.log('started')`)
  await assert.rejects(startControlServer({ path, handler }), AlreadyRunningError)
  await assert.rejects(acquireInstanceLock(lock), AlreadyRunningError)
  await other.kill()
  assert.ok((await stat(path)).isSocket())
  await assert.rejects(requestControl(path, { method: 'GET', url: '/status' }), NotRunningError)
  await using _server = await startControlServer({ path, handler })
  await using _lock = await acquireInstanceLock(lock)
  assert.equal((await requestControl(path, { method: 'GET', url: '/status' })).status, 200)
})

test('a lock is held once per name and free again after disposal', async () => {
  const name = `test-twice-${process.pid}`
  const held = await acquireInstanceLock(name)
  await assert.rejects(
    acquireInstanceLock(name),
    /another instance is running, it holds the lock "edgemesh-test-twice-/,
  )
  await using _other = await acquireInstanceLock(`${name}-other`)
  await held[Symbol.asyncDispose]()
  await using _again = await acquireInstanceLock(name)
})

test('a lock whose name a stranger holds is taken under the next name, which root and we respect', async () => {
  const name = `test-stranger-${process.pid}`
  const strangers: number[] = []
  const owners = new Map([[`edgemesh-${name}`, 1000]])
  const options = {
    ownerOf: (held: string) => owners.get(held) ?? 0,
    user: 500,
    onStranger: (user: number) => void strangers.push(user),
  }
  await using _stranger = await acquireInstanceLock(name)
  const ours = await acquireInstanceLock(name, options)
  assert.deepEqual(strangers, [1000])
  await assert.rejects(acquireInstanceLock(name, options), /it holds the lock "edgemesh-test-stranger-\d+\.1"$/)
  owners.set(`edgemesh-${name}.1`, 500)
  await assert.rejects(acquireInstanceLock(name, options), AlreadyRunningError)
  await ours[Symbol.asyncDispose]()
  await using _again = await acquireInstanceLock(name, options)
})

test('a stranger that holds every name of a lock is an error that says so', async () => {
  const name = `test-strangers-${process.pid}`
  const options = { ownerOf: () => 1000, user: 0, onStranger: () => {} }
  await using held = new AsyncDisposableStack()
  for (let number = 0; number < 16; number++) held.use(await acquireInstanceLock(name, options))
  await assert.rejects(acquireInstanceLock(name, options), /other users hold the names after it/)
})

test('a path too long for a socket is refused with the reason', async () => {
  const path = `/tmp/${'x'.repeat(120)}/control.sock`
  await assert.rejects(startControlServer({ path, handler }), /at most 107 bytes/)
  await assert.rejects(requestControl(path, { method: 'GET', url: '/status' }), /at most 107 bytes/)
})

test('a request that nobody answers ends with its signal', async () => {
  await using folder = await temporaryFolder()
  const path = join(folder.path, 'silent.sock')
  const silent = createServer((socket) => void socket.resume()).listen(path)
  await once(silent, 'listening')
  await assert.rejects(requestControl(path, { method: 'GET', url: '/status' }, AbortSignal.timeout(20)), /abort/)
  silent.close()
  await once(silent, 'close')
})
