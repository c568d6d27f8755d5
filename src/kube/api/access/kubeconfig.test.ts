import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { KubeconfigError, kubeconfigConnection } from './kubeconfig.ts'

let folder = ''
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'kubeconfig-'))
})
after(() => rm(folder, { recursive: true }))

interface Parts {
  readonly cluster?: Readonly<Record<string, unknown>>
  readonly user?: Readonly<Record<string, unknown>>
  readonly context?: Readonly<Record<string, unknown>>
  readonly current?: string
}

async function write(name: string, { cluster, user, context, current = 'here' }: Parts): Promise<string> {
  const file = join(folder, name)
  const config = {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      { name: 'other', cluster: { server: 'https://wrong.test' } },
      { name: 'c', cluster: { server: 'https://api.test:6443', ...cluster } },
    ],
    users: [
      { name: 'other', user: { token: 'wrong' } },
      { name: 'u', user: user ?? {} },
    ],
    contexts: [
      { name: 'elsewhere', context: { cluster: 'other', user: 'other' } },
      { name: 'here', context: { cluster: 'c', user: 'u', ...context } },
    ],
    'current-context': current,
  }
  await writeFile(file, JSON.stringify(config))
  return file
}

async function connectionOf(name: string, parts: Parts, server?: string) {
  return await kubeconfigConnection(await write(name, parts), server)(false)
}

const inline = (text: string) => Buffer.from(text).toString('base64')

suite('a kubeconfig gives', () => {
  test('the server and token of its current context', async () => {
    const { url, headers, tls } = await connectionOf('token', { user: { token: 'abc' } })
    assert.deepEqual([url.href, headers, tls], ['https://api.test:6443/', { authorization: 'Bearer abc' }, {}])
  })

  test('those of another context once that is the current one', async () => {
    const parts = { user: { token: 'abc' } }
    const load = kubeconfigConnection(await write('contexts', parts))
    assert.equal((await load(false)).url.href, 'https://api.test:6443/')
    await write('contexts', { ...parts, current: 'elsewhere' })
    const { url, headers } = await load(false)
    assert.deepEqual([url.href, headers], ['https://wrong.test/', { authorization: 'Bearer wrong' }])
  })

  test('certificates that it holds', async () => {
    const { tls, headers } = await connectionOf('inline', {
      cluster: { 'certificate-authority-data': inline('CA'), 'tls-server-name': 'kubernetes' },
      user: { 'client-certificate-data': inline('CERT'), 'client-key-data': inline('KEY') },
    })
    assert.deepEqual(tls, { ca: 'CA', servername: 'kubernetes', cert: 'CERT', key: 'KEY' })
    assert.deepEqual(headers, {})
  })

  test('certificates in files beside it, which are read each time', async () => {
    for (const name of ['ca', 'cert', 'key']) await writeFile(join(folder, `${name}.pem`), name)
    const load = kubeconfigConnection(
      await write('files', {
        cluster: { 'certificate-authority': 'ca.pem' },
        user: { 'client-certificate': 'cert.pem', 'client-key': 'key.pem' },
      }),
    )
    assert.deepEqual((await load(false)).tls, { ca: 'ca', cert: 'cert', key: 'key' })
    await writeFile(join(folder, 'cert.pem'), 'rotated')
    assert.equal((await load(false)).tls.cert, 'rotated')
  })

  test('the token of a file, which is read each time, before one that it holds', async () => {
    const file = join(folder, 'token-file')
    await writeFile(file, 'first\n')
    const load = kubeconfigConnection(await write('tokenFile', { user: { tokenFile: file, token: 'held' } }))
    assert.deepEqual((await load(false)).headers, { authorization: 'Bearer first' })
    await writeFile(file, 'second\n')
    assert.deepEqual((await load(false)).headers, { authorization: 'Bearer second' })
    await rm(file)
    assert.deepEqual((await load(false)).headers, { authorization: 'Bearer held' })
  })

  test('a name and password, and whom to impersonate', async () => {
    const { headers } = await connectionOf('basic', { user: { username: 'joe', password: 's3', as: 'jane' } })
    assert.deepEqual(headers, { authorization: `Basic ${inline('joe:s3')}`, 'impersonate-user': 'jane' })
  })

  test('a cluster without a user, without certificate checks and without TLS', async () => {
    const cluster = { server: 'http://127.0.0.1:10550', 'insecure-skip-tls-verify': true }
    const { url, headers, tls } = await connectionOf('bare', { cluster, context: { user: '' } })
    assert.deepEqual([url.href, headers, tls], ['http://127.0.0.1:10550/', {}, { rejectUnauthorized: false }])
    const plain = await connectionOf('plain', { cluster: { server: 'http://127.0.0.1:10550' } })
    assert.deepEqual(plain.tls, {})
  })

  test('everything but the server when another one is asked for', async () => {
    const { url, headers } = await connectionOf('other', { user: { token: 'abc' } }, 'https://near.test')
    assert.deepEqual([url.href, headers], ['https://near.test/', { authorization: 'Bearer abc' }])
  })

  test('its new content when it is rewritten', async () => {
    const load = kubeconfigConnection(await write('rewritten', { user: { token: 'one' } }))
    await load(false)
    await write('rewritten', { cluster: { server: 'https://new.test' }, user: { token: 'two' } })
    const { url, headers } = await load(false)
    assert.deepEqual([url.href, headers], ['https://new.test/', { authorization: 'Bearer two' }])
  })
})

suite('a credential plugin', () => {
  /** A plugin that says how often it was run, and what it was told. */
  async function writePlugin(name: string, body: string): Promise<string> {
    const plugin = join(folder, name)
    await writeFile(plugin, `#!/bin/sh\n${body}\n`)
    await chmod(plugin, 0o755)
    return plugin
  }

  const credential = (status: object) =>
    JSON.stringify({ apiVersion: 'client.authentication.k8s.io/v1', kind: 'ExecCredential', status })

  test('is run once, and again when its credentials are refused', async () => {
    const counter = join(folder, 'runs')
    const answer = credential({ token: 'TOKEN', clientCertificateData: 'CERT', clientKeyData: 'KEY' })
    const command = await writePlugin(
      'plugin',
      `echo >> ${counter}; printf '${answer}' | sed s/TOKEN/$1-$(wc -l < ${counter})/`,
    )
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command, args: ['t'] }
    const load = kubeconfigConnection(await write('exec', { user: { exec } }))
    const first = await load(false)
    assert.deepEqual([first.headers, first.tls], [{ authorization: 'Bearer t-1' }, { cert: 'CERT', key: 'KEY' }])
    assert.deepEqual((await load(false)).headers, { authorization: 'Bearer t-1' })
    assert.deepEqual((await load(true)).headers, { authorization: 'Bearer t-2' })
  })

  test('is run again when its credentials have expired', async () => {
    const counter = join(folder, 'expiries')
    const answer = credential({ token: 'TOKEN', expirationTimestamp: '2020-01-01T00:00:00Z' })
    const command = await writePlugin(
      'expiring',
      `echo >> ${counter}; printf '${answer}' | sed s/TOKEN/$(wc -l < ${counter})/`,
    )
    const load = kubeconfigConnection(await write('expiring-config', { user: { exec: { command } } }))
    assert.deepEqual((await load(false)).headers, { authorization: 'Bearer 1' })
    assert.deepEqual((await load(false)).headers, { authorization: 'Bearer 2' })
  })

  test('is told how it is run, and gets the variables of the kubeconfig', async () => {
    const answer = credential({ token: 'x' })
    const told = join(folder, 'told')
    const command = await writePlugin('told-plugin', `echo "$KUBERNETES_EXEC_INFO $MINE" > ${told}; printf '${answer}'`)
    const exec = { apiVersion: 'client.authentication.k8s.io/v1beta1', command, env: [{ name: 'MINE', value: 'yes' }] }
    await connectionOf('told-config', { user: { exec } })
    const { readFile } = await import('node:fs/promises')
    const text = await readFile(told, 'utf8')
    assert.match(text, / yes$/m)
    assert.equal(JSON.parse(text.slice(0, text.lastIndexOf(' '))).apiVersion, 'client.authentication.k8s.io/v1beta1')
  })

  test('that fails is an error that says so', async () => {
    const command = await writePlugin('failing', 'echo not logged in >&2; exit 3')
    await assert.rejects(connectionOf('failing-config', { user: { exec: { command } } }), (error) => {
      assert.ok(error instanceof KubeconfigError)
      assert.match(error.message, /credential plugin of user u failed/)
      assert.match(String(error.cause), /not logged in/)
      return true
    })
  })
})

suite('a kubeconfig is refused', () => {
  for (const [what, parts, problem] of [
    ['without its current context', { current: 'gone' }, /current context "gone" has no cluster/],
    ['with a context of no cluster', { context: { cluster: 'gone' } }, /has no cluster/],
    ['with a server that is no URL', { cluster: { server: 'api.test' } }, /"api.test" is no URL/],
    ['with a proxy', { cluster: { 'proxy-url': 'http://proxy.test' } }, /proxy-url/],
  ] as const) {
    test(what, async () => {
      await assert.rejects(connectionOf('refused', parts), (error) => {
        assert.ok(error instanceof KubeconfigError)
        assert.match(error.message, problem)
        return true
      })
    })
  }

  test('when it is no YAML, when it is something else, and when it is missing', async () => {
    const file = join(folder, 'broken')
    for (const text of ['{', 'clusters: 5', 'just text']) {
      await writeFile(file, text)
      await assert.rejects(kubeconfigConnection(file)(false), KubeconfigError, text)
    }
    await assert.rejects(kubeconfigConnection(join(folder, 'missing'))(false), /ENOENT/)
  })
})
