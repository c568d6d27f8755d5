import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SecretError, serverCertificateOf } from './certificates.ts'

const base64 = (text: string) => Buffer.from(text).toString('base64')
const secret = (data: Readonly<Record<string, string>>) => ({
  namespace: 'shop',
  name: 'cert',
  data: Object.fromEntries(Object.entries(data).map(([key, value]) => [key, base64(value)])),
})

test('a certificate is found under either name, and its CA in either Secret', () => {
  const plain = secret({ 'tls.crt': 'C', 'tls.key': 'K' })
  assert.deepEqual(serverCertificateOf('shop/cert', plain, undefined), {
    cert: Buffer.from('C'),
    key: Buffer.from('K'),
    ca: undefined,
  })
  const caOf = (...secrets: Parameters<typeof serverCertificateOf> extends [string, ...infer Rest] ? Rest : never) => {
    return serverCertificateOf('shop/cert', ...secrets).ca?.toString()
  }
  assert.equal(caOf(secret({ cert: 'C', key: 'K', cacert: 'A' }), undefined), 'A')
  assert.equal(caOf(secret({ 'tls.crt': 'C', 'tls.key': 'K', 'ca.crt': 'A' }), secret({ 'ca.crt': 'B' })), 'A')
  assert.equal(caOf(plain, secret({ cacert: 'B' })), 'B')
})

test('a Secret that cannot be used is told by name, never by content', () => {
  const cases: readonly (readonly [ReturnType<typeof secret> | undefined, string])[] = [
    [undefined, 'there is no Secret shop/cert'],
    [secret({ 'tls.key': 'sesame' }), 'Secret shop/cert has no tls.crt'],
    [secret({ 'tls.crt': 'C', 'tls.key': '' }), 'Secret shop/cert has no tls.key'],
  ]
  for (const [found, message] of cases) {
    assert.throws(() => serverCertificateOf('shop/cert', found, undefined), new SecretError(message))
  }
})
