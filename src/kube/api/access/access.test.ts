import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { silentLogger } from '../../../observability/index.ts'
import { createCachedAccess } from './access.ts'

/** An access whose every reading gives a new token, or fails when told to. */
function createFixture() {
  const clock = { now: 0 }
  const readings: boolean[] = []
  const failure: { error?: Error } = {}
  const load = async (isRefused: boolean) => {
    readings.push(isRefused)
    if (failure.error) throw failure.error
    return { url: new URL('https://api.test'), headers: { authorization: `Bearer ${readings.length}` }, tls: {} }
  }
  const access = createCachedAccess(load, silentLogger, () => clock.now)
  const token = async () => (await access.connection()).headers['authorization']
  const refreshed = async () => (await access.refresh()).headers['authorization']
  return { clock, readings, failure, token, refreshed }
}

suite('credentials', () => {
  test('are read once a minute', async () => {
    const { clock, token, readings } = createFixture()
    assert.deepEqual([await token(), await token()], ['Bearer 1', 'Bearer 1'])
    clock.now = 59_999
    assert.equal(await token(), 'Bearer 1')
    clock.now = 60_000
    assert.equal(await token(), 'Bearer 2')
    assert.deepEqual(readings, [false, false])
  })

  test('are read once for all who ask at the same time', async () => {
    const { token, readings } = createFixture()
    assert.deepEqual(await Promise.all([token(), token(), token()]), ['Bearer 1', 'Bearer 1', 'Bearer 1'])
    assert.equal(readings.length, 1)
  })

  test('are read anew when they are refused, but not for each request of a server that refuses all', async () => {
    const { clock, token, refreshed, readings } = createFixture()
    await token()
    clock.now = 5_000
    assert.deepEqual([await refreshed(), await refreshed()], ['Bearer 2', 'Bearer 2'])
    clock.now = 6_000
    assert.equal(await refreshed(), 'Bearer 3')
    assert.deepEqual(readings, [false, true, true])
  })

  test('that cannot be read are an error at first, and later the last ones stay in use', async () => {
    const { clock, token, failure } = createFixture()
    failure.error = new Error('ENOENT')
    await assert.rejects(token(), /ENOENT/)
    delete failure.error
    assert.equal(await token(), 'Bearer 2')
    failure.error = new Error('ENOENT')
    clock.now = 100_000
    assert.equal(await token(), 'Bearer 2')
  })
})
