import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { kubeSchema } from '../config.ts'
import { chooseOrigin } from './choose-origin.ts'
import { ApiStatusError } from './errors.ts'

const inPod = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' }

/** Chooses with a script of answers: what the nth probe of an origin does. */
function createChoice(config: object, env: object, answers: Readonly<Record<string, readonly (Error | 'ok')[]>>) {
  const probed: string[] = []
  const waits: string[] = []
  const counts = new Map<string, number>()
  const choose = (signal = new AbortController().signal) =>
    chooseOrigin(
      {
        config: kubeSchema.parse(config),
        env: { ...env },
        probe: async ({ origin }) => {
          probed.push(origin)
          const count = counts.get(origin) ?? 0
          counts.set(origin, count + 1)
          const answer = answers[origin]?.[count] ?? new Error('nobody there')
          if (answer instanceof Error) throw answer
        },
        onWaiting: (reason) => waits.push(reason),
        random: () => 0,
      },
      signal,
    )
  return { choose, probed, waits }
}

suite('the API to follow is', () => {
  test('the kubeconfig that is named, without asking anybody', async () => {
    const config = { kubeConfig: '/k', master: 'https://m.test' }
    const { choose, probed } = createChoice(config, inPod, { metaServer: ['ok'] })
    const { origin, reason } = await choose()
    assert.deepEqual([origin, probed], ['kubeconfig', []])
    assert.equal(reason, 'kubeAPIConfig.kubeConfig names /k, kubeAPIConfig.master https://m.test')
  })

  test('the master that is named', async () => {
    const { choose, probed } = createChoice({ master: 'https://m.test' }, inPod, { metaServer: ['ok'] })
    const { origin, reason, habits } = await choose()
    assert.deepEqual([origin, reason, probed], ['master', 'kubeAPIConfig.master names https://m.test', []])
    assert.deepEqual(habits, { bookmarks: true, history: true })
  })

  test('metaServer when it answers, also in a Pod', async () => {
    const { choose, probed } = createChoice({}, inPod, { metaServer: ['ok'], 'in-cluster': ['ok'] })
    const { origin, reason, habits } = await choose()
    assert.deepEqual([origin, probed], ['metaServer', ['metaServer']])
    assert.equal(reason, 'metaServer answers at http://127.0.0.1:10550')
    assert.deepEqual(habits, { bookmarks: false, history: false })
  })

  test("the cluster's own in a Pod where metaServer does not answer, and says what metaServer did", async () => {
    const { choose } = createChoice({}, inPod, { 'in-cluster': ['ok'] })
    const { origin, reason } = await choose()
    assert.equal(origin, 'in-cluster')
    assert.equal(reason, 'KUBERNETES_SERVICE_HOST names https://10.96.0.1:443; metaServer: nobody there')
  })
})

suite('while nobody answers', () => {
  test('each is asked again in the same order until one does', async () => {
    const late = new Error('nobody there')
    const answers = { metaServer: [late, 'ok'], 'in-cluster': [late] } as const
    const { choose, probed, waits } = createChoice({}, inPod, answers)
    assert.equal((await choose()).origin, 'metaServer')
    assert.deepEqual(probed, ['metaServer', 'in-cluster', 'metaServer'])
    assert.deepEqual(waits, ['metaServer: nobody there; in-cluster: nobody there'])
  })

  test('outside of a Pod the reason says so, and what to set when metaServer refuses', async () => {
    const refused = new ApiStatusError('get /api/v1/services', 401, { text: 'Unauthorized' })
    const { choose, waits } = createChoice({}, {}, { metaServer: [refused, 'ok'] })
    await choose()
    assert.deepEqual(waits, [
      'metaServer: Cannot get /api/v1/services: 401 Unauthorized (see kubeAPIConfig.metaServer.security); in-cluster: this is no Pod',
    ])
  })

  test('the choice ends with the signal', async () => {
    const { choose } = createChoice({}, {}, {})
    const controller = new AbortController()
    const choosing = choose(controller.signal)
    controller.abort(new Error('enough'))
    await assert.rejects(choosing, /enough/)
  })
})
