"""SOAP envelopes of WS-Management: read requests, build responses and faults.

DSP0226 1.2 (SOAP 1.2, WS-Addressing 2004/08); [MS-WSMV] 2.2.4 and 3.1.4. Requests are untrusted: no
document type, bounded depth and number of elements, every number checked.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from imagetool.lab.winrm import soap_faults
from imagetool.lab.winrm.soap_faults import SoapFault

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# Namespaces of XML
SOAP = "http://www.w3.org/2003/05/soap-envelope"
ADDRESSING = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
TRANSFER = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
WSMAN = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
MICROSOFT = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
SHELL = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
CMD_URI = f"{SHELL}/cmd"
IDENTITY = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
FAULT = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
_WMI = "http://schemas.dmtf.org/wbem/wscim/1/cim-schema/2/MSFT_WmiError"
_SCHEMA_TYPES = "http://www.w3.org/2001/XMLSchema-instance"
ANONYMOUS = f"{ADDRESSING}/role/anonymous"

_MAX_DEPTH = 32
_MAX_ELEMENTS = 10_000
_MIN_ENVELOPE_SIZE = 8_192
_DEFAULT_TIMEOUT = 60.0
_DURATION = re.compile(
    r"P(?:(?P<days>\d{1,6})D)?"
    r"(?:T(?:(?P<hours>\d{1,6})H)?(?:(?P<minutes>\d{1,6})M)?(?:(?P<seconds>\d{1,9}(?:\.\d+)?)S)?)?"
)


@dataclass(frozen=True, slots=True)
class SoapRequest:
    """The headers of a request that the endpoint uses, and its body."""

    action: str
    resource: str
    message_id: str
    shell_id: str
    options: dict[str, str] = field(repr=False)
    timeout: float
    """OperationTimeout, in seconds."""
    max_envelope_size: int
    """The largest response that the client accepts, in bytes."""
    body: Element | None = field(repr=False)
    """The first element of the body."""


def parse(data: bytes) -> Element:
    """Parse an envelope. Raises SoapFault for no XML, deep nesting, or a document type."""
    from xml.etree.ElementTree import ParseError, TreeBuilder

    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import DefusedXMLParser

    class BoundedTreeBuilder(TreeBuilder):
        depth = count = 0

        def start(self, tag: str, attrs: dict[str, str], /) -> Element:
            self.depth += 1
            self.count += 1
            if self.depth > _MAX_DEPTH or self.count > _MAX_ELEMENTS:
                raise soap_faults.invalid_xml()
            return super().start(tag, attrs)

        def end(self, tag: str, /) -> Element:
            self.depth -= 1
            return super().end(tag)

    parser = DefusedXMLParser(target=BoundedTreeBuilder(), forbid_dtd=True)
    try:
        parser.feed(data)
        root: Element = parser.close()
    except (ParseError, DefusedXmlException, ValueError, LookupError):
        # LookupError: an unknown encoding.
        raise soap_faults.invalid_xml() from None
    if root.tag != f"{{{SOAP}}}Envelope":
        raise soap_faults.schema_violation("The root element is no SOAP envelope. ")
    return root


def is_identify(root: Element) -> bool:
    """True if the envelope is an Identify request (DSP0226 1.2, section 11), without headers."""
    return root.find(f"{{{SOAP}}}Body/{{{IDENTITY}}}Identify") is not None


def read_message_id(root: Element) -> str:
    """Return the MessageID, or an empty text."""
    return element_text(root.find(f"{{{SOAP}}}Header/{{{ADDRESSING}}}MessageID"))


def read_request(root: Element) -> SoapRequest:
    """Read a request. Raises SoapFault where a header is missing or has an invalid value."""
    header = root.find(f"{{{SOAP}}}Header")
    if header is None:
        raise _missing_header("a:MessageID")
    for element in header:
        name = element.tag.rpartition("}")[0].lstrip("{")
        must = element.get(f"{{{SOAP}}}mustUnderstand", "").lower() in ("true", "1")
        if must and name not in (ADDRESSING, WSMAN, MICROSOFT):
            raise SoapFault("s:MustUnderstand", 0x80338042, "A header is not understood. ")
    action = element_text(header.find(f"{{{ADDRESSING}}}Action"))
    identifier = element_text(header.find(f"{{{ADDRESSING}}}MessageID"))
    if not action or not identifier:
        raise _missing_header("a:Action" if identifier else "a:MessageID")
    timeout = header.find(f"{{{WSMAN}}}OperationTimeout")
    size = element_text(header.find(f"{{{WSMAN}}}MaxEnvelopeSize"))
    if size and not re.fullmatch(r"\d{1,10}", size):
        raise soap_faults.schema_violation("MaxEnvelopeSize is no number of bytes. ")
    if size and int(size) < _MIN_ENVELOPE_SIZE:
        raise soap_faults.envelope_too_small()
    body = root.find(f"{{{SOAP}}}Body")
    if body is None:
        raise soap_faults.schema_violation("The envelope has no body. ")
    return SoapRequest(
        action=action,
        resource=element_text(header.find(f"{{{WSMAN}}}ResourceURI")),
        message_id=identifier,
        shell_id=_named_values(header, "SelectorSet", "Selector").get("ShellId", ""),
        options=_named_values(header, "OptionSet", "Option"),
        timeout=_DEFAULT_TIMEOUT if timeout is None else parse_duration(element_text(timeout)),
        max_envelope_size=int(size) if size else 1 << 31,
        body=next(iter(body), None),
    )


def element_text(element: Element | None) -> str:
    """Return the text of an element, or an empty text."""
    return "" if element is None else (element.text or "").strip()


def _named_values(header: Element, collection: str, member: str) -> dict[str, str]:
    found = header.iterfind(f"{{{WSMAN}}}{collection}/{{{WSMAN}}}{member}")
    return {element.get("Name", ""): element_text(element) for element in found}


def parse_duration(value: str) -> float:
    """Parse an xs:duration of days and less; return seconds. Raises SoapFault."""
    match = _DURATION.fullmatch(value)
    if match is None or value[-1] in "PT":
        raise soap_faults.schema_violation(f"{value[:100]!r} is no xs:duration. ")
    days, hours, minutes, seconds = (float(match[n] or 0) for n in (1, 2, 3, 4))
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _missing_header(name: str) -> SoapFault:
    return SoapFault(
        "a:MessageInformationHeaderRequired", 0x8033800F, f"The header {name} is missing. "
    )


def build_response(action: str, relates_to: str, body: str) -> bytes:
    """Build a response; `body` is XML."""
    related = f"<a:RelatesTo>{escape(relates_to)}</a:RelatesTo>" if relates_to else ""
    return (
        f'<s:Envelope xml:lang="en-US" xmlns:s="{SOAP}" xmlns:a="{ADDRESSING}" '
        f'xmlns:x="{TRANSFER}" xmlns:w="{WSMAN}" xmlns:rsp="{SHELL}" xmlns:p="{MICROSOFT}">'
        f"<s:Header><a:Action>{escape(action)}</a:Action>"
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID>"
        f"<a:To>{ANONYMOUS}</a:To>{related}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def build_identify_response(authenticated: bool) -> bytes:
    """Build the response to Identify; only authenticated clients get the system's version."""
    version = "10.0.17763" if authenticated else "0.0.0"
    return (
        f'<s:Envelope xmlns:s="{SOAP}"><s:Header/><s:Body>'
        f'<wsmid:IdentifyResponse xmlns:wsmid="{IDENTITY}">'
        f"<wsmid:ProtocolVersion>{WSMAN}</wsmid:ProtocolVersion>"
        "<wsmid:ProductVendor>imagetool lab</wsmid:ProductVendor>"
        f"<wsmid:ProductVersion>OS: {version} SP: 0.0 Stack: 3.0</wsmid:ProductVersion>"
        "</wsmid:IdentifyResponse></s:Body></s:Envelope>"
    ).encode()


def build_fault(fault: SoapFault, relates_to: str) -> bytes:
    """Build a fault as Windows does."""
    message = escape(fault.message)
    if fault.as_wmi_error:
        detail = (
            f'<q:MSFT_WmiError xmlns:q="{_WMI}" xmlns:xsi="{_SCHEMA_TYPES}">'
            f"<q:CIMStatusCode>27</q:CIMStatusCode><q:Message>{message}</q:Message>"
            f"<q:MessageID>HRESULT 0x{fault.code:08x}</q:MessageID>"
            f"<q:error_Category>30</q:error_Category><q:error_Code>{fault.code}</q:error_Code>"
            f"<q:error_Type>HRESULT</q:error_Type>"
            f"<q:error_WindowsErrorMessage>{message}</q:error_WindowsErrorMessage>"
            "</q:MSFT_WmiError>"
        )
    else:
        detail = (
            f'<f:WSManFault xmlns:f="{FAULT}" Code="{fault.code}" Machine="lab">'
            f"<f:Message>{message}</f:Message></f:WSManFault>"
        )
    value = "s:Sender" if fault.sender else "s:Receiver"
    if fault.subcode.startswith("s:"):
        code = f"<s:Value>{fault.subcode}</s:Value>"
    else:
        code = (
            f"<s:Value>{value}</s:Value><s:Subcode><s:Value>{fault.subcode}</s:Value></s:Subcode>"
        )
    family = ADDRESSING if fault.subcode.startswith("a:") else WSMAN.removesuffix(".xsd")
    return build_response(
        f"{family}/fault",
        relates_to,
        f"<s:Fault><s:Code>{code}</s:Code><s:Reason>"
        f'<s:Text xml:lang="en-US">{message}</s:Text></s:Reason>'
        f"<s:Detail>{detail}</s:Detail></s:Fault>",
    )


def quote_attribute(value: str) -> str:
    """Return an attribute's value, escaped and in quotation marks."""
    return quoteattr(value)
