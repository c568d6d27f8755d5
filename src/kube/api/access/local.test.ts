import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { kubeSchema } from '../../config.ts'
import { inClusterConnection, inClusterUrlOf, masterConnection } from './in-cluster.ts'
import { metaServerConnection } from './meta-server.ts'

let pod = ''
let empty = ''
before(async () => {
  pod = await mkdtemp(join(tmpdir(), 'service-account-'))
  empty = await mkdtemp(join(tmpdir(), 'no-pod-'))
  await writeFile(join(pod, 'token'), 'token-1\n')
  await writeFile(join(pod, 'ca.crt'), 'CA')
})
after(() => Promise.all([pod, empty].map((folder) => rm(folder, { recursive: true }))))

const asServiceAccount = { authorization: 'Bearer token-1' }

suite('in a Pod', () => {
  test('the API server is where the environment says, also by IPv6', () => {
    const at = (host: string, port?: string) =>
      inClusterUrlOf({ KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port })
    assert.equal(at('10.96.0.1', '443'), 'https://10.96.0.1:443')
    assert.equal(at('fd00::1', '6443'), 'https://[fd00::1]:6443')
    assert.equal(at('127.0.0.1'), 'https://127.0.0.1:443')
    assert.equal(inClusterUrlOf({ KUBERNETES_SERVICE_PORT: '443' }), undefined)
  })

  test('the service account is read each time', async () => {
    const load = inClusterConnection('https://[fd00::1]:443', pod)
    const { url, headers, tls } = await load(false)
    assert.deepEqual([url.hostname, headers, tls], ['[fd00::1]', asServiceAccount, { ca: 'CA' }])
    await writeFile(join(pod, 'token'), 'token-2')
    assert.deepEqual((await load(false)).headers, { authorization: 'Bearer token-2' })
    await writeFile(join(pod, 'token'), 'token-1\n')
    await assert.rejects(inClusterConnection('https://10.96.0.1', empty)(false), /ENOENT/)
  })
})

test('a master is spoken to with the service account, or without anything where there is none', async () => {
  const inside = await masterConnection('https://192.0.2.1:6443', pod)(false)
  assert.deepEqual(
    [inside.url.href, inside.headers, inside.tls],
    ['https://192.0.2.1:6443/', asServiceAccount, { ca: 'CA' }],
  )
  const outside = await masterConnection('http://192.0.2.1:8080', empty)(false)
  assert.deepEqual([outside.headers, outside.tls], [{}, {}])
})

suite('metaServer', () => {
  const connect = (metaServer: object, directory: string) =>
    metaServerConnection(kubeSchema.parse({ metaServer }).metaServer, directory)(false)

  test('is spoken to plainly by default', async () => {
    const { url, headers, tls } = await connect({}, pod)
    assert.deepEqual([url.href, headers, tls], ['http://127.0.0.1:10550/', {}, {}])
  })

  test('with authorization is spoken to by https with token, CA and client certificate', async () => {
    const [tlsCaFile, tlsCertFile, tlsPrivateKeyFile] = ['meta-ca', 'meta-cert', 'meta-key'].map((name) =>
      join(empty, name),
    )
    for (const file of [tlsCaFile, tlsCertFile, tlsPrivateKeyFile]) await writeFile(String(file), String(file))
    const security = { requireAuthorization: true, tlsCaFile, tlsCertFile, tlsPrivateKeyFile }
    const { url, headers, tls } = await connect({ security }, pod)
    assert.equal(url.href, 'https://127.0.0.1:10550/')
    assert.deepEqual([headers, tls], [asServiceAccount, { ca: tlsCaFile, cert: tlsCertFile, key: tlsPrivateKeyFile }])
    const withoutCertificate = { ...security, tlsCertFile: join(empty, 'none') }
    assert.deepEqual((await connect({ security: withoutCertificate }, empty)).tls, { ca: tlsCaFile })
    assert.deepEqual((await connect({ security: withoutCertificate }, empty)).headers, {})
    const withoutCa = { ...security, tlsCaFile: join(empty, 'none') }
    await assert.rejects(connect({ security: withoutCa }, pod), /ENOENT/)
  })

  test('with authorization but without verification needs no files', async () => {
    const security = { requireAuthorization: true, insecureSkipTLSVerify: true }
    const { url, headers, tls } = await connect({ server: 'https://127.0.0.1:10550', security }, pod)
    assert.deepEqual([url.protocol, headers, tls], ['https:', asServiceAccount, { rejectUnauthorized: false }])
  })
})
