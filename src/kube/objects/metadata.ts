import type { Field } from './field.ts'

/** Namespace and name of a namespaced object; the namespace defaults as it does in kubectl. */
export function parseIdentity(object: Field): { readonly namespace: string; readonly name: string } {
  const namespace = object.at('metadata', 'namespace')
  return {
    namespace: namespace.text() === '' ? 'default' : namespace.dnsName(),
    name: object.at('metadata', 'name').dnsName(),
  }
}

/** When the API made the object; nothing for objects of files. */
export function parseCreation(object: Field): { readonly createdAt?: string } {
  const createdAt = object.at('metadata', 'creationTimestamp').text()
  return createdAt === '' ? {} : { createdAt }
}
