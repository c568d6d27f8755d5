import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { SharedDial } from './shared-dial.ts'

const patient = new AbortController().signal

function createFixture() {
  const { promise, resolve, reject } = Promise.withResolvers<string>()
  const signals: AbortSignal[] = []
  const dial = new SharedDial((signal) => {
    signals.push(signal)
    return promise
  })
  return { dial, resolve, reject, isEnded: () => signals[0]?.aborted }
}

suite('a dial for several', () => {
  test('is made once, and told to all', async () => {
    const { dial, resolve, isEnded } = createFixture()
    const all = [dial.wait(patient), dial.wait(patient)]
    assert.equal(dial.mayBeJoined, true)
    resolve('connected')
    assert.deepEqual(await Promise.all(all), ['connected', 'connected'])
    assert.equal(isEnded(), false)
  })

  test('fails for all', async () => {
    const { dial, reject } = createFixture()
    const all = [dial.wait(patient), dial.wait(patient)]
    reject(new Error('refused'))
    for (const one of all) await assert.rejects(one, { message: 'refused' })
  })

  test('goes on for the others when one gives up, and is joined by nobody else', async () => {
    const { dial, resolve, isEnded } = createFixture()
    const impatient = new AbortController()
    const [given, kept] = [dial.wait(impatient.signal), dial.wait(patient)]
    impatient.abort(new Error('too long'))
    await assert.rejects(given, { message: 'too long' })
    assert.deepEqual([isEnded(), dial.mayBeJoined], [false, false])
    resolve('connected')
    assert.equal(await kept, 'connected')
  })

  test('ends with the last one who waits, whose rejection is the only one', async () => {
    const { dial, reject, isEnded } = createFixture()
    const impatient = new AbortController()
    const given = dial.wait(impatient.signal)
    impatient.abort(new Error('too long'))
    await assert.rejects(given, { message: 'too long' })
    assert.equal(isEnded(), true)
    reject(new Error('refused'))
  })
})
