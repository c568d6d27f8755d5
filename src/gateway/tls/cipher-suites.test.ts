import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chooseCiphers } from './cipher-suites.ts'

const tls13 = 'TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256'

test('names of OpenSSL and of the IANA mean the same, and TLS 1.3 keeps its own', () => {
  for (const suite of ['ECDHE-RSA-AES128-GCM-SHA256', 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256']) {
    assert.deepEqual(chooseCiphers([suite], false), { ciphers: `${tls13}:ECDHE-RSA-AES128-GCM-SHA256`, unknown: [] })
  }
  const { ciphers } = chooseCiphers(
    [
      'TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256',
      'TLS_RSA_WITH_AES_256_CBC_SHA',
      'TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256',
    ],
    false,
  )
  assert.equal(ciphers, `${tls13}:ECDHE-ECDSA-CHACHA20-POLY1305:AES256-SHA:ECDHE-RSA-AES128-SHA256`)
  assert.equal(chooseCiphers(['TLS_AES_128_GCM_SHA256'], false).ciphers, 'TLS_AES_128_GCM_SHA256')
})

test('what nobody knows is named, and leaves the defaults when nothing else is there', () => {
  assert.deepEqual(chooseCiphers(['ROT13'], false), { ciphers: undefined, unknown: ['ROT13'] })
  assert.deepEqual(chooseCiphers([], false), { ciphers: undefined, unknown: [] })
})

test('old versions get the security level that has them', () => {
  assert.equal(chooseCiphers([], true).ciphers, 'DEFAULT@SECLEVEL=0')
  assert.equal(chooseCiphers(['AES128-SHA'], true).ciphers, `${tls13}:AES128-SHA:@SECLEVEL=0`)
})

test('every suite that the example of the Go system lists is known', () => {
  const listed = [
    ['TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA', 'ECDHE-ECDSA-AES256-SHA'],
    ['TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384', 'ECDHE-ECDSA-AES256-GCM-SHA384'],
    ['TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256', 'ECDHE-ECDSA-AES128-SHA256'],
    ['TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384', 'ECDHE-RSA-AES256-GCM-SHA384'],
    ['TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA', 'ECDHE-RSA-AES128-SHA'],
    ['TLS_RSA_WITH_AES_128_GCM_SHA256', 'AES128-GCM-SHA256'],
    ['ecdhe-rsa-aes128-gcm-sha256', 'ECDHE-RSA-AES128-GCM-SHA256'],
  ] as const
  for (const [suite, name] of listed) {
    assert.deepEqual(chooseCiphers([suite], false), { ciphers: `${tls13}:${name}`, unknown: [] })
  }
})

test('one that is not known takes nothing from the others', () => {
  assert.deepEqual(chooseCiphers(['NULL-NOTHING', 'AES128-SHA', 'TLS_FALLBACK_SCSV'], false), {
    ciphers: `${tls13}:AES128-SHA`,
    unknown: ['NULL-NOTHING', 'TLS_FALLBACK_SCSV'],
  })
})
