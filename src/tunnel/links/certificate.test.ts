import assert from 'node:assert/strict'
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { createCertificate } from './certificate.ts'

test('the certificate is signed by its own key, which goes with it', () => {
  const { cert, key } = createCertificate()
  const certificate = new X509Certificate(cert)
  assert.ok(certificate.verify(certificate.publicKey))
  assert.ok(certificate.checkPrivateKey(createPrivateKey(key)))
  assert.equal(certificate.publicKey.asymmetricKeyType, 'ed25519')
  assert.equal(certificate.subject, 'CN=edgemesh link')
  assert.equal(certificate.issuer, certificate.subject)
})

test('it is valid at any time, because clocks at the edge are wrong', () => {
  const { validFromDate, validToDate } = new X509Certificate(createCertificate().cert)
  assert.equal(validFromDate.getTime(), 0)
  assert.equal(validToDate.getUTCFullYear(), 9999)
})

test('two certificates have nothing in common but their form', () => {
  const [first, second] = [new X509Certificate(createCertificate().cert), new X509Certificate(createCertificate().cert)]
  assert.notEqual(first.serialNumber, second.serialNumber)
  assert.ok(!first.verify(second.publicKey))
})
